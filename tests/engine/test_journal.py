"""The journal of a run: a step is in it whole or not at all, and nothing else is taken for one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from fssbench.engine.journal import Journal
from fssbench.errors import RecordError

IDENTITY = {"method": "toy", "shot": 1}
COUNTS = (1, 2, 3, 4, 5, 6)


def written(path: Path) -> bytes:
    """The bytes of a journal of two steps: episodes 3 and 1 of fold 0, then episode 2 of fold 1."""
    journal = Journal(path, IDENTITY)
    journal.append(0, [(3, 1, COUNTS), (1, 1, COUNTS)], {3: b"three", 1: b"one\n\x00"})
    journal.append(1, [(2, 0, COUNTS), (2, 1, COUNTS)], {2: b"two"})
    journal.close()
    return path.read_bytes()


def test_rows_and_predictions_come_back_by_fold_and_episode(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    journal = Journal(tmp_path / "journal", IDENTITY)
    assert journal.resumed
    assert journal.rows == dict.fromkeys([(0, 3, 1), (0, 1, 1), (1, 2, 0), (1, 2, 1)], COUNTS)
    masks = [(0, 1, b"one\n\x00"), (0, 3, b"three"), (1, 2, b"two")]
    assert list(journal.masks()) == masks
    journal.append(1, [(0, 1, COUNTS)], {0: b"none"})  # after reading, it is the end that is written to
    assert list(journal.masks()) == [*masks[:2], (1, 0, b"none"), masks[2]]
    journal.close()
    with closing(Journal(tmp_path / "journal", IDENTITY)) as again:
        assert len(again.rows) == 5


def test_a_step_cut_off_anywhere_is_gone_with_its_predictions_and_the_others_stay(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal")
    last = whole.rindex(b"\n", 0, -1) + 1
    for length in range(last, len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        journal = Journal(tmp_path / "journal", IDENTITY)
        assert sorted(journal.rows) == [(0, 1, 1), (0, 3, 1)]
        assert [key[:2] for key in journal.masks()] == [(0, 1), (0, 3)]
        journal.append(1, [(2, 1, COUNTS)], {2: b"two"})  # what was torn is overwritten
        journal.close()
        with closing(Journal(tmp_path / "journal", IDENTITY)) as again:
            assert list(again.masks())[-1] == (1, 2, b"two")


@pytest.mark.parametrize("tail", [bytes(400), b"\xff" * 400, b"\n", b"\1\2\3"])
def test_rubbish_behind_a_journal_is_no_step(tmp_path: Path, tail: bytes) -> None:
    whole = written(tmp_path / "journal")
    (tmp_path / "journal").write_bytes(whole + tail)
    with closing(Journal(tmp_path / "journal", IDENTITY)) as journal:
        assert len(journal.rows) == 4
    assert (tmp_path / "journal").read_bytes() == whole


def test_a_flipped_bit_is_never_read(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal")
    first = whole.index(b"\n") + 1
    end = whole.index(b"\n", first)  # of the first step
    for place in range(first, end, 7):
        (tmp_path / "journal").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RecordError, match=r"line [23] of [34] is damaged"):
            Journal(tmp_path / "journal", IDENTITY)


def test_another_runs_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal")
    with pytest.raises(RecordError, match=r"shot: then 1, now 5"):
        Journal(tmp_path / "journal", {**IDENTITY, "shot": 5})
    assert (tmp_path / "journal").read_bytes() == whole


def test_a_step_of_another_journal_is_taken_once_and_only_whole(tmp_path: Path) -> None:
    written(tmp_path / "other")
    told: list[bytes] = []
    with (
        closing(Journal(tmp_path / "journal", IDENTITY)) as journal,
        closing(Journal(tmp_path / "other", IDENTITY)) as other,
    ):
        journal.append(0, [(3, 1, COUNTS)], {3: b"three"})
        journal.told = told.append
        first, second = other.steps()
        for torn in (first[:-1], first[:20] + b"!" + first[21:], b""):
            with pytest.raises(RecordError, match="a step came damaged from another journal"):
                journal.merge(torn)
        assert [journal.merge(line) for line in (first, second, first, second)] == [1, 1, 0, 0]
        assert journal.rows == other.rows
        assert list(journal.masks()) == list(other.masks())
        assert len(told) == 2
        assert journal.steps()[1:] == told
