"""A damaged bank is refused on use, wherever the damage is."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import BankError
from fssbench.protocols import FSSBENCH

PLACES = 100


@pytest.fixture(scope="module")
def bank(small_voc_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "bank.h5"
    protocol = FSSBENCH.but(episodes=8, min_area=100)
    generate(Pascal5i(small_voc_original), Request(protocol, shots=(2,), annotations=("box",)), path)
    return path


def found_by_verify(path: Path) -> str:
    """What opening or verifying a bank finds."""
    try:
        with open_bank(path) as opened:
            return next(problems(opened), "")
    except BankError as error:
        return str(error)


def test_any_flipped_bit_is_found_by_verify(bank: Path, tmp_path: Path) -> None:
    whole, rng = bank.read_bytes(), random.Random(0)
    header = [rng.randrange(512 * 8) for _ in range(PLACES)]
    anywhere = [rng.randrange(len(whole) * 8) for _ in range(PLACES)]
    path = tmp_path / "flipped.h5"
    for place in (*header, *anywhere, 0, len(whole) * 8 - 1):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert "flipped.h5" in found_by_verify(path), place


def test_any_truncation_is_refused(bank: Path, tmp_path: Path) -> None:
    whole, rng = bank.read_bytes(), random.Random(1)
    path = tmp_path / "cut.h5"
    for length in (0, 1, 100, 511, 512, 513, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(PLACES))):
        path.write_bytes(whole[:length])
        with pytest.raises(BankError, match=r"cut\.h5"):
            open_bank(path)


def test_bytes_added_at_the_end_are_refused(bank: Path, tmp_path: Path) -> None:
    (tmp_path / "long.h5").write_bytes(bank.read_bytes() + b"\0")
    with pytest.raises(BankError, match="longer than it was written"):
        open_bank(tmp_path / "long.h5")


def test_a_truncated_bank_says_how_many_bytes_are_missing(bank: Path, tmp_path: Path) -> None:
    length = bank.stat().st_size
    (tmp_path / "cut.h5").write_bytes(bank.read_bytes()[:1000])
    with pytest.raises(BankError, match=f"truncated: {length} bytes expected, 1000 found"):
        open_bank(tmp_path / "cut.h5")


def test_a_bank_of_another_format_version_says_so(bank: Path, tmp_path: Path) -> None:
    whole = bank.read_bytes()
    (tmp_path / "later.h5").write_bytes(whole.replace(b"\nformat 2\n", b"\nformat 3\n", 1))
    with pytest.raises(BankError, match=r"expected bank format 2, found format 3\. Use the fssbench release"):
        open_bank(tmp_path / "later.h5")


def test_a_bank_of_the_first_format_says_how_to_make_it_anew(bank: Path, tmp_path: Path) -> None:
    whole = bank.read_bytes()
    (tmp_path / "old.h5").write_bytes(whole.replace(b"\nformat 2\n", b"\nformat 1\n", 1))
    with pytest.raises(BankError, match=r"format 2, found format 1\. Make it anew by .*generate-episodes"):
        open_bank(tmp_path / "old.h5")


@pytest.mark.parametrize(("content", "found"), [(b"", "an empty file"), (b"\x89PNG\r\n\x1a\n...", "another kind")])
def test_a_file_that_is_no_hdf5_says_so(content: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(content)
    with pytest.raises(BankError, match=f"expected an episode bank, found .*{found}"):
        open_bank(tmp_path / "other.h5")


def test_a_hdf5_file_of_something_else_says_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(BankError, match="a HDF5 file that fssbench did not write"):
        open_bank(tmp_path / "other.h5")


def test_a_file_that_is_not_there_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="found no file"):
        open_bank(tmp_path / "none.h5")
    with pytest.raises(BankError, match="unreadable"):
        open_bank(tmp_path)


def use(bank: Bank) -> list[object]:
    """Everything that a run reads."""
    seen: list[object] = [bank.fingerprint, bank.class_names, bank.protocol, bank.masks.kinds]
    for fold in bank.fold_classes:
        episodes = bank.episodes(fold)
        seen += [episodes.classes.tolist(), episodes.support.tolist(), episodes.query.tolist()]
    seen += [(bank.image_bytes(i), bank.masks.layers(i).maps[0].tobytes()) for i in range(len(bank.image_ids))]
    return seen


def test_damage_after_opening_is_refused_or_harmless(bank: Path, tmp_path: Path) -> None:
    """Opening does not hash the file: HDF5's checksums and the hashes of images and masks see it when it is read."""
    whole, rng, path = bank.read_bytes(), random.Random(2), tmp_path / "late.h5"
    with open_bank(bank) as intact:
        expected = use(intact)
    refused = 0
    for _ in range(40):
        damaged, place = bytearray(whole), rng.randrange(512 * 8, len(whole) * 8)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            with open_bank(path) as opened:
                assert use(opened) == expected  # the bit was one that nothing reads
        except BankError as error:
            assert "late.h5" in str(error)
            refused += 1
    assert refused > 20


def test_a_damaged_image_is_seen_when_it_is_read(bank: Path, tmp_path: Path) -> None:
    whole, path = bytearray(bank.read_bytes()), tmp_path / "late.h5"
    with open_bank(bank) as intact:
        image = intact.image_bytes(5)
    whole[whole.index(image) + 100] ^= 4  # image bytes are stored as they are
    path.write_bytes(whole)
    with open_bank(path) as opened, pytest.raises(BankError, match=r"late\.h5"):
        opened.image_bytes(5)
