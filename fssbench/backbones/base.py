"""A network cut into stages: what a backbone offers, and what a method needs of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from fssbench.errors import CheckpointError, MethodError
from fssbench.method import IMAGENET_MEAN, IMAGENET_STD, Features

# One stage of a network: the whole network's modules and the map before it, to the map after it.
Step = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Needs:
    """What a method asks of a backbone: the maps it reads, by depth (`c5` is the last).

    `one_size`: maps that must have one stride; `strides`: maps that must have the stride given; `restarts`: maps
    computed again from a changed map (or image) before them.
    """

    maps: tuple[str, ...] = ()
    one_size: tuple[str, ...] = ()
    strides: Mapping[str, int] = field(default_factory=dict)
    restarts: tuple[str, ...] = ()


class Pretrained(nn.Module):
    """A network that has published weights."""

    weights_kind: Literal["imagenet", "published"] = "imagenet"  # what those are trained on: ImageNet, or other images

    def load_imagenet(self) -> None:
        """Load the weights it is published with (see `weights_kind`); `CheckpointError` where they cannot be had."""
        raise NotImplementedError


class Backbone(Pretrained):
    """An image network cut into stages, each of which turns the map of the one before into its own.

    `last` names the stage that `forward` stops at, where later ones are not wanted; None runs them all.
    `channels` and `strides` are what each map offers; sides of the input must be multiples of `multiple`.
    Backbones with equal `signature` and weights compute the same function.
    """

    restarts = True  # whether `stage` can run one stage alone

    def __init__(
        self,
        name: str,
        body: nn.Module,
        steps: Mapping[str, Step],
        channels: Mapping[str, int],
        signature: str,
        imagenet: Callable[[], Mapping[str, Tensor]],
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        *,
        strides: Mapping[str, int],
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.name, self.body, self.channels, self.signature = name, body, dict(channels), signature
        self.mean, self.std, self.strides, self.multiple = mean, std, dict(strides), multiple
        self.last: str | None = None
        self.only_size: tuple[int, int] | None = None  # of the input, where a network takes no other
        self._steps, self._imagenet = dict(steps), imagenet

    def forward(self, images: Tensor) -> Features:
        """B x 3 x H x W -> {"c1": B x C x h x w, ...}."""
        self.check_size((images.shape[-2], images.shape[-1]))
        return self._run(images, {}, list(self._steps))

    def onward(self, maps: Features) -> Features:
        """`forward`'s maps, where it had come as far as the last of these."""
        if not self.restarts:
            return maps
        names = list(self._steps)
        reached = max(maps, key=names.index)
        return self._run(maps[reached], dict(maps), [] if reached == self.last else names[names.index(reached) + 1 :])

    def _run(self, x: Tensor, maps: Features, names: list[str]) -> Features:
        for name in names:
            x = self._steps[name](self.body, x)
            if name in self.channels:
                maps[name] = x
            if name == self.last:
                break
        return maps

    def stage(self, name: str, x: Tensor) -> Tensor:
        """One stage alone, on a map of the stage before it (PFENet runs the last one on masked features)."""
        return self._steps[name](self.body, x)

    def recut(
        self,
        steps: Mapping[str, Step],
        channels: Mapping[str, int],
        label: str,
        strides: Mapping[str, int] | None = None,
    ) -> Backbone:
        """The same network and weights, cut elsewhere; `label` tells its signature from this one's.

        `strides` of the new maps; None where their names are old ones and their strides too.
        """
        signature = f"{self.signature} {label}"
        strides = strides or {name: self.strides[name] for name in channels}
        return Backbone(
            self.name, self.body, steps, channels, signature, self._imagenet, self.mean, self.std,
            strides=strides, multiple=self.multiple,
        )  # fmt: skip

    def load_imagenet(self) -> None:
        """Load the published weights; `CheckpointError` with the way out where they cannot be had."""
        state = self._imagenet()
        wanted = self.body.state_dict()
        missing = sorted(set(wanted) - set(state))
        if missing:
            raise CheckpointError(
                f"the published weights of {self.name} lack {len(missing)} entries, first {missing[0]}"
            )
        self.body.load_state_dict({name: state[name] for name in wanted})

    def check_size(self, size: tuple[int, int]) -> None:
        """`MethodError` unless the input's height and width suit the patches: nothing is cut off or padded."""
        if self.only_size is not None and tuple(size) != self.only_size:
            expected = ",".join(map(str, self.only_size))
            raise MethodError(
                f"{self.name} takes images of one size: expected {expected}, found {size[0]},{size[1]}. "
                f"Say --set size={expected}."
            )
        if size[0] % self.multiple or size[1] % self.multiple:
            near = [max(1, round(side / self.multiple)) * self.multiple for side in size]
            raise MethodError(
                f"{self.name} cuts images into patches: expected sides that are multiples of {self.multiple}, found "
                f"{size[0]} x {size[1]}. Say --set size={near[0]},{near[1]}."
            )

    def suited_size(self, side: int) -> tuple[int, int]:
        """The square nearest to `side` that this network takes."""
        near = max(1, round(side / self.multiple)) * self.multiple
        return self.only_size or (near, near)

    def chosen_maps(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of maps, if they are this network's; `MethodError` naming those it has."""
        unknown = sorted(set(names) - set(self.channels))
        if unknown:
            raise MethodError(f"stages: expected some of {', '.join(self.channels)}, found {unknown[0]!r}")
        return names

    def check_needs(self, needs: Needs) -> None:
        """`MethodError` naming what is missing, unless this backbone offers what a method needs."""
        problems = []
        maps = sorted({*needs.maps, *needs.one_size, *needs.strides, *needs.restarts})
        if not set(maps) <= set(self.strides):
            problems.append(f"the maps {', '.join(maps)}")
        elif len({self.strides[name] for name in needs.one_size}) > 1:
            problems.append(f"{' and '.join(needs.one_size)} at one stride")
        problems += [
            f"{name} at stride {stride}" for name, stride in needs.strides.items() if self.strides.get(name) != stride
        ]
        if needs.restarts and not self.restarts:
            problems.append(f"{', '.join(needs.restarts)} run again on a changed map, which tokens forbid")
        if problems:
            offered = ", ".join(f"{name} (stride {stride})" for name, stride in self.strides.items())
            raise MethodError(
                f"the backbone {self.name} does not fit: the method needs {' and '.join(problems)}. It offers "
                f"{offered}. Choose another by --backbone, such as one the method's paper used."
            )
