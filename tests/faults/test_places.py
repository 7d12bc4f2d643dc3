"""Places that cannot be written: one message that names the place, status 2, and what was there stays as it was."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_data
import toy_methods
from command_line import fssbench, refused
from PIL import Image

from fssbench.banks.bank import open_bank

# How each command that writes is told where to; everything it reads lies in the working folder.
COMMANDS = {
    "generate-episodes": "generate-episodes shapes5i --episodes 4 --shots 1 --workers 1 --out OUT/b.h5",
    "run": "run toy_methods:Toy --weights random --bank bank.h5 --out OUT",
    "train": "train toy_training:Learner --dataset shapes5i --folds 0 --steps 1 --weights random --out OUT",
    "score": "score masks --bank bank.h5 --folds 0 --shots 1 --name Mine --out OUT",
    "predict": "predict toy_methods:Toy --weights random --support image.png mask.png --query image.png --out OUT",
    "import-checkpoint": "import-checkpoint toy_methods:Toy toy.pth --folds 0 --out OUT/w.safetensors",
    "show": "show bank.h5 --folds 0 --episode 0 --out OUT/e.png",
    "leaderboard": "leaderboard build results --out OUT",
    "plot": "plot results --out OUT",
    "gallery": "gallery results --bank bank.h5 --out OUT",
    "download": "download pascal5i --out OUT",
    "new-method": "new-method mine --out OUT/mine",
}


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder that everybody may read, with a bank, a record, masks, a checkpoint and a picture."""
    folder = Path(tempfile.mkdtemp())
    toy_data.make_bank(folder / "bank.h5", episodes=4)
    with open_bank(folder / "bank.h5") as bank:
        (folder / "masks/0").mkdir(parents=True)
        (folder / "masks/manifest.json").write_text(json.dumps({"bank": bank.fingerprint}))
        for row, query in enumerate(bank.episodes(0).query):
            Image.fromarray(np.ones(bank.masks.of_class(query, 1).shape, np.uint8)).save(folder / f"masks/0/{row}.png")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "image.png")
    Image.fromarray(np.eye(40, dtype=np.uint8)).save(folder / "mask.png")
    torch.save(toy_methods.Toy(toy_methods.ToyConfig()).state_dict(), folder / "toy.pth")
    run = f"run toy_methods:Toy --weights random --bank {folder}/bank.h5 --shots 1 --out {folder}/results"
    fssbench(*run.split(), "--save-predictions")
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Run as a user whom permissions bind."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield
    os.seteuid(was)


@pytest.mark.parametrize("command", COMMANDS)
def test_below_a_file(command: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(toy_methods.Toy, "load_official", toy_methods.Toy.load_state_dict)
    (tmp_path / "file").write_text("a file where a folder is asked for")
    message = refused(*COMMANDS[command].replace("OUT", f"{tmp_path}/file/out").split())
    assert f"{tmp_path}/file" in message
    assert (tmp_path / "file").read_text() == "a file where a folder is asked for"


@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_folder_that_is_read_only(command: str, work: Path, monkeypatch, nobody: None) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(toy_methods.Toy, "load_official", toy_methods.Toy.load_state_dict)
    message = refused(*COMMANDS[command].replace("OUT", f"{work}/results/out").split())
    assert f"{work}/results" in message
