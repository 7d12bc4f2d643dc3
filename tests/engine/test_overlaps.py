"""Objects that share pixels, from the data set to the audited record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import toy_data
from toy_runs import frames

from fssbench.audit.bank import find_banks
from fssbench.audit.judge import audit
from fssbench.banks.bank import open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.datasets.base import Mask
from fssbench.datasets.reading import encode_png
from fssbench.protocols import FSSBENCH
from fssbench.records import COUNTS

OBJECT, SHARED = 20 * 20, 10 * 10


class Overlapping(toy_data.ToyDataset):
    """Every image shows both classes of a fold, 20 x 20 px each, of which 10 x 10 are of both."""

    name = "overlapping"

    def masks(self, image_id: str) -> Sequence[Mask]:
        number = int(image_id[1:])
        canvas = np.zeros((2, *((40, 48), (48, 36))[number % 2]), np.uint8)
        canvas[0, 5:25, 5:25] = canvas[1, 15:35, 15:35] = 1
        first = 1 if number % 4 < 2 else 3
        return [Mask(encode_png(canvas[i]), first + i) for i in range(2)]


@pytest.mark.parametrize(("ways", "scored", "ignored"), [(1, OBJECT, 0), (2, OBJECT - SHARED, SHARED)])
def test_what_two_ways_share_is_scored_for_neither_and_what_one_has_is_scored(
    run, tmp_path: Path, ways: int, scored: int, ignored: int
) -> None:
    path = tmp_path / "bank.h5"
    protocol = FSSBENCH.but(episodes=4, min_area=20)
    generate(Overlapping(16), Request(protocol, (1,), ways=ways, annotations=("box", "scribble")), path)
    with open_bank(path) as bank:
        assert list(problems(bank)) == []
        assert (bank.masks.of_class(0, 1) == 1).sum() == OBJECT
    outcome = run("Toy", bank=path, shots=[1], out=tmp_path / "results")
    (rows,) = frames(outcome)
    objects = rows[rows["way"] > 0]
    assert len(objects) == 2 * 4 * ways
    assert set(objects["tp"] + objects["fn"]) == {scored}
    assert set(objects["ignored_fg"] + objects["ignored_bg"]) == {ignored}
    assert set(rows[COUNTS].sum(axis=1)) <= {40 * 48, 48 * 36}
    assert audit(tmp_path / "results", find_banks([path])).findings == ()
