"""What a method needs of images and supports to segment episodes, and the keys under which it is kept."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fssbench.backbones import Backbone
from fssbench.engine.labels import SupportKey
from fssbench.engine.steps import other_classes
from fssbench.method import Method, Preprocess

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fssbench.banks.bank import Episodes


@dataclass(frozen=True)
class Picture:
    """An image at a network's input size."""

    image: int
    how: Preprocess


@dataclass(frozen=True)
class MapKey:
    """What a method's `encode` gives for a picture."""

    method: int
    picture: Picture


@dataclass(frozen=True)
class PooledKey:
    """What a method's own `encode_support` gives for a picture and a label."""

    method: int
    picture: Picture
    support: SupportKey


Key = MapKey | PooledKey


@dataclass(frozen=True)
class Needs:
    """The keys of some episodes in the order in which an `EpisodeBatch` takes them; the same key may be there often."""

    queries: list[Key]
    supports: list[Key]
    auxiliary: list[Key]
    labels: list[SupportKey]

    @property
    def all(self) -> list[Key]:
        """All of them."""
        return [*self.queries, *self.supports, *self.auxiliary]


def needs_of(number: int, method: Method, episodes: Episodes, rows: NDArray[np.int64], shot: int) -> Needs:
    """What method `number` needs to segment these episodes at `shot` shots."""
    labels = [key for row in rows.tolist() for key in support_keys(episodes, row, shot)]
    supports: list[Key] = []
    for label in labels:
        picture = Picture(label.image, method.support_input)
        supports.append(PooledKey(number, picture, label) if pools_support(method) else MapKey(number, picture))
    auxiliary: list[int] = []
    if method.info.uses_auxiliary and episodes.auxiliary is not None:
        auxiliary = episodes.auxiliary[rows].ravel().tolist()
    of_query = method.query_input
    return Needs(
        [MapKey(number, Picture(image, of_query)) for image in episodes.query[rows].tolist()],
        supports,
        [MapKey(number, Picture(image, of_query)) for image in auxiliary],
        labels,
    )


def support_keys(episodes: Episodes, row: int, shot: int) -> list[SupportKey]:
    """The N x K supports of an episode, ways outermost."""
    classes = episodes.classes[row].tolist()
    return [
        SupportKey(int(image), classes[way], other_classes(classes, way))
        for way in range(len(classes))
        for image in episodes.support[row, way, :shot]
    ]


def pools_support(method: Method) -> bool:
    """Whether the method reduces a support by itself; otherwise its image's features are what `segment` gets."""
    return type(method).encode_support is not Method.encode_support


def encoder_key(method: Method, weights: str) -> Hashable:
    """Equal for methods whose encoders compute the same function, so that one pass serves them all."""
    if type(method).encode is Method.encode and isinstance(method.encoder, Backbone):
        return method.encoder.signature, method.encoder.last, weights, method.query_input, method.support_input
    return id(method)
