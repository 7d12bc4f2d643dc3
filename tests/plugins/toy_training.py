"""A method of a few hundred parameters with a recipe, dropout and momentum: what a training test needs."""

from __future__ import annotations

from torch import Tensor, nn

from fssbench.method import EpisodeBatch, Features, Method, MethodConfig, MethodInfo, Preprocess, Term
from fssbench.training.recipe import Augmentation, Group, Optimiser, Recipe, Schedule, Stage
from methods.blocks import cross_entropy, resize


class LearnerConfig(MethodConfig):
    """Nothing but a backbone's name."""

    backbone: str = "toy"
    dropout: float = 0.1


class Learner(Method):
    """Two convolutions; the support's mean is added to every query position."""

    info = MethodInfo("Learner", "A paper", "A venue", 2020, "https://example.org", None, ("toy",))
    Config = LearnerConfig
    query_input = Preprocess((32, 32))
    recipes = {
        "paper": Recipe(
            "paper",
            (
                Stage(
                    optimiser=Optimiser("AdamW", 1e-2, weight_decay=1e-2),
                    groups=(Group(("encoder.*",), rate=0.5), Group()),
                    schedule=Schedule(power=0.9, warmup=3),
                    steps=30,
                    batch=4,
                    query=Augmentation(flip=0.5),
                    support=Augmentation(flip=0.5),
                    min_area=1,
                ),
            ),
        )
    }

    def __init__(self, config: LearnerConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout2d(config.dropout), nn.Conv2d(8, 2, 3, padding=1))

    def encode(self, images: Tensor) -> Features:
        return {"map": self.encoder(images)}

    def segment(self, episodes: EpisodeBatch) -> Tensor:
        masks = episodes.support_foreground.flatten(0, 2).unsqueeze(1)
        maps = episodes.support["map"].flatten(0, 2)
        small = resize(masks, (maps.shape[2], maps.shape[3]))
        vectors = (maps * small).sum((2, 3)) / (small.sum((2, 3)) + 1e-3)
        mean = vectors.unflatten(0, episodes.size).mean((1, 2))[:, :, None, None]
        logits: Tensor = self.head(episodes.query["map"] * mean)
        return logits

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        assert episodes.query_labels is not None
        logits = resize(self.segment(episodes), episodes.query_shape)
        return {"main": cross_entropy(logits, episodes.query_labels), "size": logits.square().mean()}

    @property
    def loss_weights(self) -> dict[str, float]:
        return {"size": 1e-3}


class Breaks(Learner):
    """Its loss is not a number from the sixth step on."""

    seen = 0

    def losses(self, episodes: EpisodeBatch) -> dict[str, Tensor | Term]:
        type(self).seen += 1
        found = super().losses(episodes)
        return found | {"size": found["size"] * (float("nan") if type(self).seen > 5 else 1.0)}  # type: ignore[operator]
