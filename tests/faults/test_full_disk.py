"""A disk that is really full (the process may write so many bytes a file): one message, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import h5py
import pandas as pd
import pytest
from full_disk import room_for
from toy_runs import frames

from fssbench.engine import job
from fssbench.errors import RecordError


@pytest.mark.parametrize("room", [1200, 2500, 4000, 9000])
def test_a_full_disk_is_one_message_and_the_run_goes_on_once_there_is_room(run, tmp_path: Path, room: int) -> None:
    whole = frames(run(out=tmp_path / "whole"))[0]
    with room_for(room), pytest.raises(RecordError, match=r"could not be written|cannot be written"):
        run(out=tmp_path / "full", save_predictions=True)
    assert not list((tmp_path / "full").rglob("run.json"))
    (outcome,) = run(out=tmp_path / "full", save_predictions=True)
    pd.testing.assert_frame_equal(frames([outcome])[0], whole)
    with h5py.File(outcome.folder / "predictions.h5") as file:
        assert sorted(len(file[f"folds/{fold}/episode"]) for fold in (0, 1)) == [20, 20]


def test_a_record_that_cannot_be_written_costs_no_work_and_no_prediction(
    run, listener, tmp_path: Path, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise RecordError("no space left")

    monkeypatch.setattr(job, "write_record", full)
    with pytest.raises(RecordError, match="no space"):
        run(out=tmp_path, save_predictions=True)
    monkeypatch.undo()
    (outcome,) = run(out=tmp_path, save_predictions=True)
    assert outcome.state == "finished"
    assert listener.already == listener.episodes == 40
    with h5py.File(outcome.folder / "predictions.h5") as file:
        assert sorted(file["folds"]) == ["0", "1"]
        assert all(len(file[f"folds/{fold}/episode"]) == 20 for fold in (0, 1))
    assert sorted(path.name for path in outcome.folder.iterdir()) == ["episodes.csv.gz", "predictions.h5", "run.json"]
