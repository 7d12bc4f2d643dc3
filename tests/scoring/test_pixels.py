"""A label as a protocol scores it, by hand."""

from __future__ import annotations

import numpy as np

from fssbench.protocols import find_protocol
from fssbench.scoring.pixels import scored_label


def test_a_label_that_is_shrunk_and_enlarged_loses_what_lies_between_the_places_kept() -> None:
    label = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [0, 255, 1, 2]], np.uint8)
    twice = find_protocol("pmms").but(input_size=2)
    # 3 x 4 at 2 x 2: rows 0 and 1, columns 0 and 2. Back at 3 x 4: rows 0 0 1, columns 0 0 2 2.
    assert scored_label(label, twice).tolist() == [[1, 1, 3, 3], [1, 1, 3, 3], [5, 5, 7, 7]]
    assert scored_label(label, find_protocol("sgone")) is label
