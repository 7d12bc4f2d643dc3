"""A bank from a stranger: well sealed, and each thing in it that would lead out of the file or past its memory."""

from __future__ import annotations

import hashlib
import io
import resource
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import toy_data
from PIL import Image

from fssbench.audit.bank import find_banks
from fssbench.banks.bank import open_bank
from fssbench.banks.fingerprint import bencode
from fssbench.banks.generate import Request, generate
from fssbench.banks.seal import BLOCK, write_seal
from fssbench.banks.verify import problems
from fssbench.errors import BankError, DataError
from fssbench.protocols import FSSBENCH

Change = Callable[[h5py.File], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crafted") / "bank.h5"
    generate(toy_data.ToyDataset(16), Request(FSSBENCH.but(episodes=4, min_area=20), (1,), annotations=("box",)), path)
    return path


@pytest.fixture
def craft(original: Path, tmp_path: Path) -> Callable[[Change], Path]:
    def made(change: Change) -> Path:
        path = Path(shutil.copy(original, tmp_path / "bank.h5"))
        with path.open("r+b") as file:
            file.write(bytes(BLOCK))
        with h5py.File(path, "r+", libver="v110") as file:
            change(file)
        write_seal(path)
        return path

    return made


def instead(name: str, **made: Any) -> Change:
    """Another array under a name; without options of the same values and storage."""

    def change(file: h5py.File) -> None:
        found = file[name]
        options = {"data": found[()], "chunks": True, "fletcher32": True, **made}
        if "shape" in options:
            options.pop("data")
        del file[name]
        file.create_dataset(name, **{key: value for key, value in options.items() if value is not None})

    return change


def link(name: str, target: object) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = target

    return change


def value(name: str, place: int, new: object) -> Change:
    return lambda file: file[name].__setitem__(place, new)


def attribute(name: str, text: object) -> Change:
    return lambda file: file.attrs.__setitem__(name, text)


def virtual(file: h5py.File) -> None:
    del file["images/id"]
    layout = h5py.VirtualLayout((16,), "S3")
    layout[...] = h5py.VirtualSource("/etc/passwd", "a", (16,))
    file.create_virtual_dataset("images/id", layout)


HUGE = {"chunks": (8,), "maxshape": (None,)}

CRAFTED: dict[str, tuple[Change, str]] = {
    "external link": (link("images/id", h5py.ExternalLink("/etc/passwd", "/")), "found a link"),
    "soft link": (link("images/id", h5py.SoftLink("/classes/name")), "found a link"),
    "group by link": (link("folds/0/1", h5py.ExternalLink("other.h5", "/")), "found a link"),
    "external storage": (
        instead("classes/name", shape=(4,), dtype="S20", chunks=None, fletcher32=None,
                external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]), "found another storage"),
    "virtual": (virtual, "found another storage"),
    "72 TiB": (instead("images/height", shape=(10**13,), dtype="i8", **HUGE), "expected the shape|tables of at most"),
    "8 GB": (instead("classes/id", shape=(10**9,), dtype="i8", **HUGE), "tables of at most"),
    "200 MB of which none is there": (
        instead("folds/0/classes", shape=(25 * 10**6,), dtype="i8", **HUGE), "of which 0 are in the file"),
    "bytes that are not there": (instead("images/bytes", shape=(10**12,), dtype="u1", **HUGE), "bytes in a file of"),
    "large chunks": (
        instead("classes/id", shape=(4,), dtype="i8", chunks=(1 << 20,), maxshape=(None,)), "chunks of at most"),
    "filter": (instead("classes/id", compression="lzf"), "no foreign filter"),
    "no checksum": (instead("classes/id", fletcher32=None), "expected the checksum"),
    "contiguous": (instead("classes/id", chunks=None, fletcher32=None), "found another storage"),
    "packed bytes": (instead("images/bytes", compression="gzip"), "no foreign filter"),
    "texts of any length": (
        instead("classes/name", shape=(4,), dtype=h5py.string_dtype(), fletcher32=None), "texts of a fixed length"),
    "whole numbers as ids": (instead("images/id", data=np.arange(16)), "texts of a fixed length"),
    "fractions": (instead("classes/id", data=np.ones(4)), "expected int64"),
    "32 bits": (instead("classes/id", data=np.ones(4, np.int32)), "expected int64"),
    "rank": (instead("classes/id", data=np.ones((4, 1), np.int64)), "expected the shape"),
    "lengths": (instead("images/width", data=np.ones(3, np.int64)), "expected the shape"),
    "short hashes": (instead("images/sha256", data=np.ones((16, 31), np.uint8)), "expected the shape"),
    "missing column": (lambda f: f["images"].pop("width"), "expected height, id"),
    "further column": (lambda f: f["images"].create_dataset("more", data=[1]), "found .*'more'"),
    "further group": (lambda f: f.create_group("more"), "found .*'more'"),
    "name of a fold": (lambda f: f.move("folds/0", "folds/x"), "whole numbers as names"),
    "digits of another script": (lambda f: f.move("folds/0", "folds/٠"), "whole numbers as names"),
    "an array for a group": (link("folds/0/1", np.arange(3)), "found dataset"),
    "a group for an array": (lambda f: (f["images"].pop("id"), f["images"].create_group("id")), "expected an array"),
    "class without a number": (value("folds/0/1/classes", 0, 77), "classes"),
    "support outside": (value("folds/0/1/support", 0, 10_000), "expected 0 to"),
    "query below 0": (value("folds/0/1/query", 0, -1), "expected 0 to"),
    "run outside": (value("folds/0/1/run", 0, 5), "expected 0 to"),
    "mask of no image": (value("masks/image", -1, 500), "expected 0 to"),
    "annotation of no image": (value("annotations/box/image", 0, 500), "expected 0 to"),
    "places outside": (value("images/offset", 1, 1 << 60), "ascending places"),
    "places that go back": (value("images/offset", 1, -5), "ascending places"),
    "sizes": (value("images/height", 0, 0), "expected 1 to"),
    "a product beyond 64 bits": (value("images/height", slice(None), 1 << 62), "expected 1 to"),
    "attribute of any length": (attribute("note", "text"), "attribute note as a text of fixed length"),
    "attribute that is a number": (attribute("note", 3), "attribute note as a text of fixed length"),
    "attribute missing": (lambda f: f.attrs.__delitem__("pool"), "expected the attribute pool"),
    "two lines": (attribute("note", np.bytes_("a\nb")), "text on one line"),
    "no UTF-8": (attribute("note", np.bytes_(b"\xff\xfe")), "cannot be read"),
    "fingerprint": (attribute("fingerprint", np.bytes_("../x")), "64 hexadecimal digits"),
    "protocol": (attribute("protocol", np.bytes_("[]")), "protocol"),
    "protocol of depth": (attribute("protocol", np.bytes_("[" * 50_000)), "protocol"),
    **{f"data set {name!r}": (attribute("dataset", np.bytes_(name)), "not to be trusted")
       for name in ("../escaped", "/etc", "a/b", "a b", ".")},
    **{f"image {name!r}": (lambda f, name=name: f["images/id"].__setitem__(0, name), "expected names of images")
       for name in (b"a\nb", b"/a", b"a|b", b"..", b" a", b"a\x7f")},
    "a name twice": (lambda f: f["images/id"].__setitem__(0, f["images/id"][1]), "none twice"),
}  # fmt: skip


def everything(path: Path) -> None:
    with open_bank(path) as bank:
        bank.class_names, bank.image_sizes, bank.note, bank.pool, bank.image_ids  # noqa: B018
        for fold in bank.fold_classes:
            bank.episodes(fold)
        for i in range(len(bank.image_ids)):
            bank.image_bytes(i), bank.masks.layers(i)
        bank.masks.annotation("box", int(bank.episodes(0).support[0, 0, 0]), int(bank.episodes(0).classes[0, 0]))


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_bank_is_refused_with_one_message(name: str, craft: Callable[[Change], Path]) -> None:
    change, message = CRAFTED[name]
    path = craft(change)
    with pytest.raises(BankError, match=f"bank\\.h5: .*({message})"):
        everything(path)
    found = [str(error) for error in _opened(path)]
    assert found, "verify is content"


def _opened(path: Path) -> Iterator[object]:
    """What verify says; opening may refuse already."""
    try:
        with open_bank(path) as bank:
            yield from problems(bank)
    except BankError as error:
        yield error


def test_the_original_is_read(original: Path) -> None:
    everything(original)
    assert list(_opened(original)) == []


def test_no_size_is_believed_before_it_is_checked(craft: Callable[[Change], Path]) -> None:
    paths = craft(instead("images/height", shape=(10**13,), dtype="i8", **HUGE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BankError):
        open_bank(paths)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


def with_image(content: bytes) -> Change:
    """The first image is other bytes, hash and all."""

    def change(file: h5py.File) -> None:
        start, end = file["images/offset"][:2]
        content_there = content.ljust(end - start, b"\0")
        file["images/bytes"][start:end] = np.frombuffer(content_there, np.uint8)
        digest = hashlib.sha256(content_there).digest()
        file["images/sha256"][0] = np.frombuffer(digest, np.uint8)

    return change


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 40)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "BMP", "EPS"])
def test_images_are_jpeg_or_png(kind: str, craft: Callable[[Change], Path]) -> None:
    content = picture(kind)[:900]
    found = [str(line) for line in _opened(craft(with_image(content)))]
    assert any("expected a readable JPEG or PNG" in line for line in found)


def test_a_mask_that_would_fill_the_memory_is_refused_by_its_header(craft: Callable[[Change], Path]) -> None:
    bomb = bytearray(toy_data._png(np.zeros((4, 4), np.uint8)))
    bomb[16:24] = (9000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")

    def change(file: h5py.File) -> None:
        start = int(file["masks/offset"][0])
        file["masks/bytes"][start : start + len(bomb)] = np.frombuffer(bytes(bomb), np.uint8)

    with open_bank(craft(change)) as bank, pytest.raises((BankError, DataError), match="found 9000 x 9000"):
        bank.masks.layers(0)


def test_no_two_contents_give_the_same_bytes_for_the_fingerprint() -> None:
    def written(value: object) -> bytes:
        return b"".join(bencode(value))

    assert written(["a\nb", "c"]) != written(["a", "b\nc"])
    assert written(["1:a", ""]) != written(["", "1:a"]) != written(["1:a1:"])
    assert written([["a"], "b"]) != written([["a", "b"]])
    assert written({"a": 1}) != written(["a", 1])


def test_one_stray_file_among_banks_hinders_nobody(original: Path, tmp_path: Path) -> None:
    shutil.copy(original, tmp_path / "b.h5")
    (tmp_path / "a.h5").write_bytes(b"no bank at all")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = 1
    with open_bank(original) as bank:
        assert list(find_banks([tmp_path])) == [bank.fingerprint]
    with pytest.raises(BankError, match=r"a\.h5: expected an episode bank"):
        find_banks([tmp_path / "a.h5"])
    (tmp_path / "b.h5").unlink()
    with pytest.raises(BankError, match=r"a\.h5: expected an episode bank"):
        find_banks([tmp_path])
