"""Predictions from anyone, a journal that was cut off, a disk that is full: one message, and nothing lost."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from full_disk import room_for
from PIL import Image

from fssbench.banks.sink import Sink
from fssbench.errors import RecordError
from fssbench.predictions import (
    FILE,
    decode_label,
    encode_label,
    open_predictions,
    write_predictions,
)

FIRST, SECOND = np.eye(5, 7, dtype=np.uint8), np.full((5, 7), 2, np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_predictions(
        tmp_path / FILE, "b" * 64, [(0, 4, encode_label(FIRST)), (0, 2, encode_label(SECOND)), (3, 0, b"no PNG")]
    )
    return tmp_path / FILE


def changed(path: Path, change: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "r+", libver="v110") as file:
        change(file)
    return path


def test_what_was_written_is_read(path: Path) -> None:
    with open_predictions(path) as found:
        assert (found.bank, found.episodes(0), found.episodes(1)) == ("b" * 64, [4, 2], [])
        assert (found.mask(0, 4) == FIRST).all()
        assert (found.mask(0, 2) == SECOND).all()
        with pytest.raises(RecordError, match="fold 3, episode 0: expected a readable PNG of labels"):
            found.mask(3, 0)
        with pytest.raises(RecordError, match="no prediction for episode 9"):
            found.mask(0, 9)


def test_a_lock_that_somebody_holds_hinders_nobody(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as HDF5 does for writing, and as network file systems refuse
        with open_predictions(path) as found:
            assert found.episodes(0) == [4, 2]


@pytest.mark.parametrize("room", [600, 2000, 8000])
def test_a_file_that_cannot_grow_is_one_message(tmp_path: Path, room: int) -> None:
    noise = [(0, e, encode_label(np.random.default_rng(e).integers(0, 2, (64, 64), np.uint8))) for e in range(40)]
    with room_for(room), pytest.raises(RecordError, match="could not be written"):
        write_predictions(tmp_path / FILE, "", noise)
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_written_by_what_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    start = Sink.__init__
    monkeypatch.setattr(Sink, "__init__", lambda self, path: (opened.append(path), start(self, path))[1])
    write_predictions(tmp_path / FILE, "", [(0, 0, encode_label(FIRST))])
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["folds/0"].pop("offset"), "expected offset and bytes"),
        (lambda f: f.__setitem__("folds/1", h5py.SoftLink("/folds/0")), "found a link"),
        (lambda f: f.__setitem__("folds/1", h5py.ExternalLink("/etc/passwd", "/")), "found a link"),
        (lambda f: f.__setitem__("more", 1), "expected folds"),
        (lambda f: f.attrs.__setitem__("bank", "text of any length"), "the attribute bank"),
        (lambda f: f.attrs.__setitem__("version", np.bytes_("3")), "expected fssbench predictions 2"),
        (lambda f: f["folds/0/episode"].__setitem__(0, 2), "each once"),
        (lambda f: f["folds/0/episode"].__setitem__(0, -1), "from 0"),
        (lambda f: f["folds/0/episode"].resize((3,)), "expected the shape"),
    ],
)
def test_a_crafted_file_is_refused(path: Path, change: Callable[[h5py.File], object], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        open_predictions(changed(path, change))


def test_offsets_outside_the_bytes_are_refused(path: Path) -> None:
    changed(path, lambda file: file["folds/0/offset"].__setitem__(1, 1 << 60))
    with open_predictions(path) as found, pytest.raises(RecordError, match="ascending places"):
        found.mask(0, 4)


def test_a_file_of_old_structures_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["format"] = "fssbench predictions"
    with pytest.raises(RecordError, match=r"superblock 3.*write_predictions"):
        open_predictions(tmp_path / "old.h5")


@pytest.mark.parametrize(("mode", "form"), [("RGB", "PNG"), ("L", "GIF"), ("L", "TIFF"), ("L", "WEBP")])
def test_labels_come_as_grey_png_only(mode: str, form: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (4, 4)).save(file, form)
    with pytest.raises(RecordError, match=r"mask\.png: expected"):
        decode_label(file.getvalue(), "mask.png")


def test_a_picture_too_large_to_decode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(RecordError, match=r"mask\.png: expected a readable PNG"):
        decode_label(encode_label(FIRST), "mask.png")
