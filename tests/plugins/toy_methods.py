"""Small methods for tests of the engine: quick, deterministic, one for each kind of work and of failure."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fssbench.backbones import Backbone
from fssbench.method import EpisodeBatch, Features, Method, MethodConfig, MethodInfo, Preprocess, SupportBatch

HALF = (0.5, 0.5, 0.5)


class ToyConfig(MethodConfig):
    backbone: str = "toy"
    scale: float = 10.0


def _info(title: str, **more: object) -> MethodInfo:
    return MethodInfo(
        title=title, paper="none", venue="none", year=2026, url="", code=None, backbones=("toy",), untrained=True,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


class Toy(Method):
    """Prototypes on three random filters; any N and K."""

    info = _info("Toy", max_ways=None)
    Config = ToyConfig
    encoded = 0

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        body = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.encoder = Backbone("toy", body, {"c1": _run}, {"c1": 8}, "toy", dict, HALF, HALF, strides={"c1": 2})
        self.query_input = Preprocess((32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def encode_support(self, support: SupportBatch) -> Features:
        assert len(support.features["c1"]) == len(support.labels)  # which the sums below would not notice
        return {"prototype": _prototypes(support.features["c1"], support.labels)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        return _scores(episodes.query["c1"], episodes.support["prototype"].mean(2), self.config.scale)


class ToyMaps(Toy):
    """The same function from the supports' maps: nothing is pooled ahead."""

    info = _info("ToyMaps", max_ways=None)
    encode_support = Method.encode_support  # type: ignore[assignment]

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        maps = episodes.support["c1"]
        labels = episodes.support_labels
        pooled = _prototypes(maps.flatten(0, 2), labels.flatten(0, 2)).unflatten(0, maps.shape[:3])
        return _scores(episodes.query["c1"], pooled.mean(2), self.config.scale)


class ToyPixels(Toy):
    """Looks at the support's pixels and not at its features, in another size than the query's."""

    info = _info("ToyPixels", max_ways=1)
    encodes_support = False

    @property
    def support_input(self) -> Preprocess:
        return Preprocess((24, 24), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def encode_support(self, support: SupportBatch) -> Features:
        return {"prototype": _prototypes(self.encoder(support.pixels * support.foreground)["c1"], support.labels)}


class ToyOneWay(Toy):
    """Knows one way only, so that the engine has to merge."""

    info = _info("ToyOneWay", max_ways=1)


class ToyVote(Toy):
    """A mask for each shot, then the union."""

    info = _info("ToyVote", max_ways=1)

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        shots = episodes.support["prototype"].unbind(2)
        return torch.stack([_scores(episodes.query["c1"], p, self.config.scale) for p in shots], 1)

    def decide(self, logits: Tensor) -> Tensor:
        return logits.argmax(2).amax(1)


class ToyNaN(Toy):
    """Gives NaN for one query brightness in a few."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        logits = super().segment(episodes)
        logits[-1] = float("nan")
        return logits


class ToyRaises(Toy):
    """Has a bug."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        raise ZeroDivisionError("a bug in the head")


class ToyShape(Toy):
    """Forgets the background."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        return super().segment(episodes)[:, 1:]


class ToyMemory(Toy):
    """Has memory for two episodes at a time."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        if episodes.size[0] > 2:
            raise torch.OutOfMemoryError("out of memory")
        return super().segment(episodes)


class ToyBatchy(Toy):
    """Gives other numbers in batches of another size, as kernels of a GPU may, only more."""

    info = _info("ToyBatchy", max_ways=None)

    def project(self, features: Features) -> Features:
        return {"c1": features["c1"] + 0.1 * len(features["c1"])}

    def encode_support(self, support: SupportBatch) -> Features:
        prototypes = _prototypes(support.features["c1"], support.labels)
        return {"prototype": prototypes * torch.linspace(1, 1 + 0.1 * len(prototypes), prototypes.shape[-1])}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        scores = super().segment(episodes)
        return torch.cat([scores[:, :1] + 0.1 * episodes.size[0], scores[:, 1:]], 1)


class ToyNative(ToyBatchy):
    """The same on images of their own sizes."""

    info = _info("ToyNative", max_ways=None)

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        self.query_input = Preprocess(None, "native", mean=HALF, std=HALF)


class ToyNoProject(Toy):
    """Its own layers fail."""

    info = _info("ToyNoProject", max_ways=None)
    calls = 0

    def project(self, features: Features) -> Features:
        ToyNoProject.calls += 1
        raise ZeroDivisionError("a bug in the layers")


class ToyNoSupport(Toy):
    """Fails at its tenth support."""

    info = _info("ToyNoSupport", max_ways=None)
    calls = 0

    def encode_support(self, support: SupportBatch) -> Features:
        ToyNoSupport.calls += 1
        if ToyNoSupport.calls >= 10:
            raise ZeroDivisionError("a bug in the pooling")
        return super().encode_support(support)


class ToyDies(Toy):
    """Kills its own process in step number TOY_DIES_AT, as a power cut would."""

    info = _info("ToyDies", max_ways=None)
    steps = 0

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        ToyDies.steps += 1
        if ToyDies.steps == int(os.environ.get("TOY_DIES_AT", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().segment(episodes)


class ToySlow(Toy):
    """Takes its time, so that a test can kill it; writes a line a step where it is told to."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        time.sleep(float(os.environ.get("TOY_PAUSE", "0.05")))
        log = os.environ.get("TOY_LOG")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{episodes.size[0]}\n")
        return super().segment(episodes)


class ToyFillsDisk(Toy):
    """Leaves no room for files on a node whose temporary folder is called `full`."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        if os.environ.get("TMPDIR", "").endswith("full"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
        return super().segment(episodes)


class ToyKills(Toy):
    """Kills its process whenever it segments."""

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().segment(episodes)


def _run(body: nn.Module, images: Tensor) -> Tensor:
    Toy.encoded += len(images)
    found: Tensor = body(images)
    return found


def _prototypes(maps: Tensor, labels: Tensor) -> Tensor:
    """M x 2 x C: background and object."""
    size = maps.shape[-2:]
    masks = torch.stack([labels != 1, labels == 1], 1).float()
    masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return torch.einsum("mchw,mkhw->mkc", maps, masks) / (masks.sum((2, 3)).unsqueeze(-1) + 1e-5)


def _scores(query: Tensor, prototypes: Tensor, scale: float) -> Tensor:
    """B x N x 2 x C prototypes to B x (1 + N) x h x w."""
    all_of_them = torch.cat([prototypes[:, :, 0].mean(1, keepdim=True), prototypes[:, :, 1]], 1)
    return scale * F.cosine_similarity(query.unsqueeze(1), all_of_them[..., None, None], dim=2)
