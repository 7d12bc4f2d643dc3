"""From a prediction and a label to six integers: validate, count, compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fssbench.datasets.masks import VOID

if TYPE_CHECKING:
    from fssbench.protocol import Protocol

IGNORE = VOID

Labels = npt.NDArray[np.integer[Any]]


def validate_labels(prediction: Labels, label: Labels, ways: int = 1) -> None:
    """Check that both are integer label maps of one size. Raises `ValueError` saying what was expected and found.

    `prediction` H x W holds 0..ways; `label` H x W holds 0..ways and 255.
    """
    if prediction.shape != label.shape or prediction.ndim != 2:
        raise ValueError(
            f"expected a prediction of the label's size, H x W = {label.shape}, got one of {prediction.shape}"
        )
    for name, array, known in (
        ("prediction", prediction, range(ways + 1)),
        ("label", label, (*range(ways + 1), IGNORE)),
    ):
        if not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
            raise ValueError(f"expected {name} to hold integers, got {array.dtype}")
        foreign = sorted(set(np.unique(array).tolist()) - set(known))
        if foreign:
            raise ValueError(f"expected {name} to hold only {sorted(known)}, got {foreign[:5]}")


def scored_label(label: npt.NDArray[np.uint8], protocol: Protocol) -> npt.NDArray[np.uint8]:
    """A query's label, H x W, as a protocol that scores at the original size compares it with a prediction.

    `nearest-twice` (PMMs): at the square of the network's input and back, both by nearest, which costs thin objects.
    """
    if protocol.label_resize != "nearest-twice" or protocol.input_size is None:
        return label
    side = protocol.input_size
    rows, columns = (np.arange(length) * side // length * length // side for length in label.shape)
    return label[np.ix_(rows, columns)]


def count_pixels(prediction: Labels, label: Labels, way: int = 1) -> npt.NDArray[np.int64]:
    """TP, FP, FN, TN over valid pixels, then ignored pixels predicted foreground and background, for one way.

    `way` 0 counts the background as if it were a class. All other ways are not this one.

    >>> count_pixels(np.array([[1, 1, 0, 0]]), np.array([[1, 255, 1, 0]])).tolist()
    [1, 0, 1, 1, 1, 0]
    """
    predicted = prediction == way
    ignored = label == IGNORE
    kind = np.where(ignored, 4 + ~predicted, _CONFUSION[predicted.astype(np.intp), (label == way).astype(np.intp)])
    return np.bincount(kind.ravel(), minlength=6).astype(np.int64)


def iou(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union from TP, FP, FN in the last axis; NaN where the union is empty.

    >>> iou([[3, 1, 0], [0, 0, 0]]).tolist()
    [0.75, nan]
    """
    values = np.asarray(counts, dtype=np.float64)[..., :3]
    union = values.sum(-1)
    ratio: npt.NDArray[np.float64] = np.divide(values[..., 0], union, out=np.full(union.shape, np.nan), where=union > 0)
    return ratio


# [predicted][labelled] -> position of TP, FP, FN, TN.
_CONFUSION = np.array([[3, 2], [1, 0]])
