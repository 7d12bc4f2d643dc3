"""What BAM and HDMNet share: the base learner's two steps, the adjustment factor, the merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fssbench.checkpoints import import_official
from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, build_episodes
from fssbench.regime import Regime
from methods.bam import BAM, BAMConfig
from methods.base_learner import Merging, TwoStageMethod, base_map, gram, gram_distance
from methods.hdmnet import HDMNet, HDMNetConfig

SIZE = (49, 65)


def bam(**options: object) -> BAM:
    torch.manual_seed(0)
    return BAM(BAMConfig.model_validate({"backbone": "efficientnet_lite0", "size": SIZE, **options})).eval()


def hdmnet(**options: object) -> HDMNet:
    torch.manual_seed(0)
    return HDMNet(HDMNetConfig.model_validate({"backbone": "efficientnet_lite0", "size": SIZE, **options})).eval()


BOTH = pytest.mark.parametrize("build", [bam, hdmnet], ids=["bam", "hdmnet"])


def episodes(method: TwoStageMethod, shots: int = 1, order: list[int] | None = None) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, *SIZE, generator=generator)
    support = torch.randn(2, 1, shots, 3, *SIZE, generator=generator).cumsum(2)  # some more like the query than others
    labels = torch.zeros(2, 1, shots, *SIZE, dtype=torch.uint8)
    labels[..., 8:40, 10:30] = 1
    support = support[:, :, order] if order else support
    truth = labels[:, 0, 0].long()
    classes = torch.tensor([0, 2])
    base_labels = truth * (1 + classes)[:, None, None]
    return build_episodes(method, query, support, labels, truth, classes=classes, base_labels=base_labels)


def test_the_base_map_of_training_leaves_the_episodes_own_class_out() -> None:
    likely = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    logits = likely.log()[..., None, None]
    torch.testing.assert_close(base_map(logits)[:, 0, 0, 0], torch.tensor([0.9, 0.9]))
    own = base_map(logits, torch.tensor([0, 2]))[:, 0, 0, 0]
    torch.testing.assert_close(own, torch.tensor([0.7, 0.5]))  # without classes 1 and 3


def test_the_adjustment_factor_is_the_distance_between_matrices_of_cosines_of_channels() -> None:
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((3, 4, 2, 3))
    cosines = np.stack([_cosines(rows) for rows in maps.reshape(3, 4, -1)])
    found = gram(torch.from_numpy(maps))
    np.testing.assert_allclose(found, cosines, atol=1e-5)
    wanted = [np.sqrt(((cosines[0] - cosines[k]) ** 2).sum()) / 4 for k in (1, 2)]
    np.testing.assert_allclose(gram_distance(found[:1], found[None, 1:])[0], wanted, atol=1e-5)


def _cosines(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    table = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in rows] for a in rows]
    return np.array(table)


def test_merging_starts_as_the_meta_learner_alone() -> None:
    logits = torch.randn(2, 2, 3, 4)
    merged = Merging()(logits, torch.rand(2), torch.rand(2, 1, 3, 4))
    torch.testing.assert_close(merged, logits.softmax(1))


@BOTH
def test_step_1_trains_encoder_and_base_and_step_2_everything_else(build: type) -> None:
    method: TwoStageMethod = build()
    frozen = {name for name, p in method.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in method.named_parameters() if name.startswith(("encoder.", "base."))}

    norms = [layer for layer in method.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not any(layer.training for layer in method.train() and norms)
    assert all(layer.training for layer in method.train_base() and norms)
    assert not any(layer.training for layer in method.train() and norms)

    for parameter in method.parameters():
        parameter.requires_grad_(True)
    method.train_base().base_loss(torch.randn(3, 3, *SIZE), torch.randint(0, 4, (3, *SIZE))).total.backward()
    reached = {name for name, p in method.named_parameters() if p.grad is not None}
    assert reached == frozen


@BOTH
def test_the_base_learners_loss_is_said_and_trains_nothing(build: type) -> None:
    method: TwoStageMethod = build()
    terms = method.losses(episodes(method.train()))
    said = terms["aux2" if isinstance(method, BAM) else "base"].mean()
    assert said > 0
    assert not said.requires_grad


@BOTH
def test_a_loss_without_base_labels_is_refused(build: type) -> None:
    method: TwoStageMethod = build()
    pixels = torch.randn(1, 3, *SIZE)
    labels = torch.ones(1, 1, 1, *SIZE, dtype=torch.uint8)
    with pytest.raises(ValueError, match="expects query_labels, classes and base_labels"):
        method.loss(build_episodes(method, pixels, pixels[None, None], labels, labels[:, 0, 0].long()))


def test_bams_shot_weights_go_with_the_shots_whatever_their_order() -> None:
    method = bam(shots=3)
    torch.nn.init.normal_(method.kshot_rw[0].weight, std=30)  # type: ignore[index, arg-type]
    with torch.no_grad():
        weights, psi = method.trust(episodes(method, 3))
        turned, same = method.trust(episodes(method, 3, order=[2, 0, 1]))
    assert weights.std() > 1e-3
    torch.testing.assert_close(turned, weights[:, [2, 0, 1]])
    torch.testing.assert_close(same, psi)


def test_hdmnets_published_weights_go_with_the_rank_so_that_order_matters() -> None:
    method = hdmnet(shots=3)
    torch.nn.init.normal_(method.kshot_rw[0].weight, std=30)  # type: ignore[index, arg-type]
    with torch.no_grad():
        psi, other = method.trust(episodes(method, 3)), method.trust(episodes(method, 3, order=[2, 0, 1]))
    assert (psi - other).abs().max() > 1e-5


@BOTH
def test_shots_that_it_was_not_trained_for_count_equally(build: type) -> None:
    method = build(shots=3)
    batch = episodes(method, 2)
    distances = gram_distance(batch.query["gram"], batch.support["gram"][:, 0])
    psi = method.trust(batch)[1] if isinstance(method, BAM) else method.trust(batch)
    torch.testing.assert_close(psi, distances.mean(1))


@BOTH
def test_a_one_shot_checkpoint_does_not_fit_a_five_shot_model(build: type) -> None:
    with pytest.raises(CheckpointError, match=r"missing: kshot_rw\.0\.bias"):
        build(shots=5).load_official(build().state_dict())


@BOTH
def test_a_base_learners_checkpoint_fills_encoder_and_base_alone(build: type) -> None:
    method, other = (build(backbone="resnet50") for _ in range(2))
    theirs = {}
    for name, value in other.state_dict().items():
        short = name.removeprefix("base.").removeprefix("encoder.body.")
        if name.startswith("encoder.body.conv1."):
            short = short.replace("conv1", "layer0", 1)
        if name.startswith("encoder.body.bn1."):
            short = short.replace("bn1", "layer0.7", 1)
        if name.startswith(("base.", "encoder.")):
            theirs[short] = value + 1
        if name.startswith("encoder."):
            theirs[f"encoder.{short}"] = value + 1  # the same tensors again, as their files hold them
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.load_base(theirs)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name] + 1 if name.startswith(("encoder.", "base.")) else before[name]), name


@pytest.mark.parametrize(
    ("method", "head"), [(BAM, "learner_base.1.4"), (HDMNet, "base_learnear.2"), (BAM, "cls.4"), (HDMNet, "cls.4")]
)
def test_an_authors_checkpoint_says_how_many_base_classes_and_shots_it_is_for(
    method: type[TwoStageMethod], head: str
) -> None:
    state = {f"module.{head}.weight": torch.zeros(61, 512, 1, 1), "module.kshot_rw.0.weight": torch.zeros(2, 5, 1, 1)}
    assert method.official_settings(state) == ("base_classes=60", "shots=5")
    assert method.official_settings({}) == ()


@BOTH
def test_cocos_checkpoints_are_imported_without_being_told_the_number_of_classes(build: type, tmp_path: Path) -> None:
    theirs = build(base_classes=60, shots=5)
    torch.save(theirs.state_dict(), tmp_path / "coco.pth")
    few = ("backbone=efficientnet_lite0", "size=49,65")
    state, card = import_official(
        build.__name__, tmp_path / "coco.pth", Regime(dataset="coco20i", fold=1), settings=few
    )
    assert (card.config["base_classes"], card.config["shots"]) == (60, 5)
    assert torch.equal(state["base.cls.4.weight"], theirs.state_dict()["base.cls.4.weight"])
