"""A hook of mkdocs: the pictures of the gallery are made by the commands above them, whenever the site is built."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGE = "gallery.md"
RUN = "--backbone efficientnet_lite0 --set size=129,129 --bank shapes.h5 --folds 0 --shots 1 5 --save-predictions"
# The command, and which of the pictures it leaves are shown, with what they say.
STEPS: tuple[tuple[str, dict[str, str]], ...] = (
    ("generate-episodes shapes5i --episodes 40 --shots 5 --annotations box,scribble,point --out shapes.h5 -q", {}),
    ("show shapes.h5 --sheet 6 --out sheet.png", {"sheet.png": "Six episodes: supports, query, truth."}),
    (
        "show shapes.h5 --folds 0 --episode 0 --annotation scribble --out scribble.png",
        {"scribble.png": "One episode with scribbles in place of masks."},
    ),
    (f"run panet prototype {RUN}", {}),
    (
        "gallery --method panet --shots 1 --bank shapes.h5 --out gallery",
        {"gallery/*best.png": "Where PANet is at its best,", "gallery/*worst.png": "and at its worst."},
    ),
    (
        "plot --shots 1 --out plots",
        {"plots/*classes.png": "IoU by class, with intervals.", "plots/*size.png": "IoU by the object's size."},
    ),
)


def on_files(files: Files, config: Any) -> Files:
    """Run the commands in a folder of their own; add the page and its pictures."""
    text = ["# Gallery\n\nEvery picture here was made by the commands beside it when this page was built.\n"]
    with tempfile.TemporaryDirectory() as folder:
        for command, pictures in STEPS:
            subprocess.run([sys.executable, "-m", "fssbench", *command.split()], cwd=folder, check=True)
            text.append(f"```\nfssbench {command}\n```\n")
            for pattern, caption in pictures.items():
                name = f"gallery/{pattern.replace('*', '').replace('/', '-')}"
                picture = next(Path(folder).glob(pattern)).read_bytes()
                files.append(File.generated(config, name, content=picture))
                text.append(f"![{caption}]({name})\n\n*{caption}*\n")
    files.append(File.generated(config, PAGE, content="\n".join(text)))
    return files
