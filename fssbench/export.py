"""A bank's episodes as plain files, for programs in any language: images, support masks, and a manifest.

`manifest.json` holds `bank` (the fingerprint, which masks have to name), `ways`, `shots`, `classes`, and a list of
`episodes`, each with `fold`, `episode`, `classes`, `query` and `supports`: for each way a list of files by the names
`image`, `mask` and those of weak annotations. Masks are 0 background, 255 object, 128 neither (void, not labelled).
With truth, `truth` is 0 background, n the n-th way, 255 void.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fssbench.banks.bank import Bank
from fssbench.datasets.reading import encode_png
from fssbench.errors import BankError, UsageError
from fssbench.progress import Progress, quiet
from fssbench.submissions import MANIFEST

FORMAT, VERSION = "fssbench export", 1
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png"}


def export(
    bank: Bank,
    out: Path,
    *,
    folds: Sequence[int] | None = None,
    shots: int | None = None,
    truth: bool = False,
    force: bool = False,
    progress: Progress = quiet,
) -> Path:
    """Write the episodes of a bank to the folder `out`, whole or not at all; returns its manifest.

    Raises `BankError` for a bank without images, `UsageError` for a folder that exists (with `force`: that is no
    export).
    """
    if not bank.has_images:
        raise BankError(f"{bank.path}: expected a bank with images, found an index. `fssbench attach` puts them in.")
    ours = (out / MANIFEST).is_file()
    if out.exists() and not (force and ours) and (not out.is_dir() or any(out.iterdir())):
        what = "add --force to replace it" if ours else "it is no export, so it stays"
        raise UsageError(f"{out} exists already. Name another folder by --out; {what}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        wanted = list(folds) if folds is not None else sorted(bank.fold_classes)
        writer = _Writer(bank, temporary, shots or bank.shots, truth)
        listed = [entry for fold in progress(wanted, "exporting folds") for entry in writer.fold(fold)]
        manifest = {
            "format": FORMAT, "version": VERSION, "bank": bank.fingerprint, "dataset": bank.dataset,
            "protocol": bank.protocol.name, "ways": bank.ways, "shots": shots or bank.shots,
            "classes": {str(number): name for number, name in bank.class_names.items()}, "episodes": listed,
        }  # fmt: skip
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
        temporary.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out / MANIFEST


class _Writer:
    """Writes each file once, when an episode needs it first."""

    def __init__(self, bank: Bank, folder: Path, shots: int, truth: bool) -> None:
        self._bank, self._folder, self._shots, self._truth = bank, folder, shots, truth
        self._done: dict[tuple[str, int, int], str] = {}

    def fold(self, fold: int) -> Iterator[dict[str, Any]]:
        """The manifest's entries of a fold."""
        drawn = self._bank.episodes(fold, self._shots)
        for number in range(len(drawn)):
            query, classes = int(drawn.query[number]), drawn.classes[number].tolist()
            entry: dict[str, Any] = {
                "fold": fold, "episode": number, "classes": classes, "query": self._image(query),
                "supports": [
                    [self._support(int(image), class_id) for image in way]
                    for class_id, way in zip(classes, drawn.support[number], strict=True)
                ],
            }  # fmt: skip
            if self._truth:
                labels = self._bank.masks.truth(query, classes)
                entry["truth"] = self._write(f"truth/{fold}/{number}.png", encode_png(labels))
            yield entry

    def _support(self, image: int, class_id: int) -> dict[str, str]:
        files = {"image": self._image(image)}
        for kind in self._bank.masks.kinds:
            key = (kind, image, class_id)
            if key not in self._done:
                codes = self._bank.masks.annotation(kind, image, class_id)
                self._done[key] = self._write(f"{kind}/{image:06}-{class_id}.png", encode_png(_shown(codes)))
            files[kind] = self._done[key]
        return files

    def _image(self, image: int) -> str:
        key = ("image", image, 0)
        if key not in self._done:
            encoded = self._bank.image_bytes(image)
            self._done[key] = self._write(f"images/{image:06}{_SUFFIXES[encoded[:2]]}", encoded)
        return self._done[key]

    def _write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name


def _shown(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes of an annotation as grey: 0 background, 255 object, 128 what is said of neither."""
    return np.choose(np.minimum(codes, 2), [0, 255, 128]).astype(np.uint8)
