"""PFENet beyond its parity cases: the prior, other shapes and backbones, training modes, checkpoints."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, build_episodes
from methods import pfenet as module
from methods.pfenet import FeatureEnrichment, PFENet, PFENetConfig, prior_mask


def pfenet(backbone: str = "efficientnet_lite0", **options: object) -> PFENet:
    torch.manual_seed(0)
    return PFENet(PFENetConfig.model_validate({"backbone": backbone, "ppm_scales": (1, 0.5), **options})).eval()


def episodes(method: PFENet, shots: int = 1, *, size: tuple[int, int] = (49, 65), same: bool = False) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, *size, generator=generator)
    support = torch.randn(2, 1, 1 if same else shots, 3, *size, generator=generator).expand(-1, -1, shots, -1, -1, -1)
    labels = torch.zeros(2, 1, shots, *size, dtype=torch.uint8)
    labels[:, :, :, 8:40, 10:30] = 1
    truth = torch.randint(0, 2, (2, *size), generator=generator)
    return build_episodes(method, query, support, labels, truth)


def logits(method: PFENet, batch: EpisodeBatch) -> Tensor:
    with torch.no_grad():
        return method.segment(batch)


def prior_by_loops(query: NDArray[np.float64], support: NDArray[np.float64]) -> NDArray[np.float64]:
    """One query and one support, C x h x w: each query position's best cosine, min-max scaled."""
    best = np.zeros(query.shape[1:])
    for y, x in np.ndindex(*best.shape):
        f = query[:, y, x]
        cosines = [f @ g / (np.sqrt(f @ f) * np.sqrt(g @ g) + 1e-7) for g in support.reshape(len(support), -1).T]
        best[y, x] = max(cosines)
    scaled: NDArray[np.float64] = (best - best.min()) / (best.max() - best.min() + 1e-7)
    return scaled


@pytest.mark.parametrize("signed", [False, True], ids=["after ReLU", "with negative cosines"])
def test_prior_is_the_scaled_best_cosine_of_each_shot(signed: bool) -> None:
    rng = np.random.default_rng(0)
    query, support = rng.standard_normal((2, 6, 3, 5)), rng.standard_normal((2, 3, 6, 4, 2))
    if not signed:
        query, support = abs(query), abs(support)
    support *= rng.uniform(size=(2, 3, 1, 4, 2)) > 0.5  # masks of different areas
    support[0, 0, :, 0, 0] = -query[0, :, 0, 0]
    support[0, 1] = rng.standard_normal((6, 4, 2))  # nothing outside the mask
    found = prior_mask(torch.from_numpy(query), torch.from_numpy(support)).numpy()
    for b, k in np.ndindex(2, 3):
        np.testing.assert_allclose(found[b, k], prior_by_loops(query[b], support[b, k]), atol=1e-9)


def test_prior_of_an_empty_mask_is_zero() -> None:
    query = torch.rand(1, 4, 3, 3)
    assert torch.equal(prior_mask(query, torch.zeros(1, 2, 4, 3, 3)), torch.zeros(1, 2, 3, 3))


def test_prior_compares_a_large_support_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query, support = (torch.rand(*shape, 7, 9, generator=generator) for shape in ((1, 4), (1, 2, 4)))
    whole = prior_mask(query, support)
    monkeypatch.setattr(module, "POSITIONS", 5)
    torch.testing.assert_close(prior_mask(query, support), whole, atol=1e-5, rtol=0)


def test_bins_are_sides_or_shares_of_the_map() -> None:
    # The COCO configs on the 81 x 81 map of a 641 px input, and a map that is not square.
    assert [FeatureEnrichment.bins(s, (81, 81)) for s in (1, 0.5, 0.25, 0.125)] == [(s, s) for s in (81, 40, 20, 10)]
    assert [FeatureEnrichment.bins(s, (6, 9)) for s in (60, 0.5, 0.1)] == [(60, 60), (3, 4), (1, 1)]


@pytest.mark.parametrize("scales", [(), (4, 0)])
def test_bins_have_to_be_positive(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="at least one bin"):
        PFENetConfig(ppm_scales=scales)


@pytest.mark.parametrize("options", [{"backbone": "resnet50", "deep_stem": False}, {"backbone": "vgg16"}, {}])
def test_any_backbone_and_shape_gives_logits_at_the_size_of_layer_3(options: dict[str, object]) -> None:
    method = pfenet(**options)  # type: ignore[arg-type]
    expected = (4, 5) if options.get("backbone") == "vgg16" else (7, 9)  # stride 16 and 8
    found = logits(method, episodes(method, shots=2))
    assert found.shape == (2, 2, *expected)
    assert torch.isfinite(found).all()


def test_equal_shots_count_as_one() -> None:
    method = pfenet()
    one, three = logits(method, episodes(method, 1, same=True)), logits(method, episodes(method, 3, same=True))
    torch.testing.assert_close(one, three)


def test_support_vector_is_the_masked_mean() -> None:
    method = pfenet()
    with torch.no_grad():
        batch = episodes(method, size=(65, 65))
        encoded = method.encode(batch.support_pixels[:, 0, 0])["support"].double().numpy()
    mask = nn.functional.interpolate(batch.support_foreground[:, 0], (9, 9), mode="bilinear", align_corners=True)
    weights = mask.double().numpy()
    expected = (encoded * weights).sum((2, 3)) / (weights.sum((2, 3)) + 0.0005)
    np.testing.assert_allclose(batch.support["vector"][:, 0, 0], expected, rtol=1e-4, atol=1e-6)


def test_void_pixels_of_the_query_do_not_count_in_the_loss() -> None:
    method = pfenet(aux_weight=0.5)
    batch = episodes(method)
    assert batch.query_labels is not None
    batch.query_labels[:, :20] = 255
    with torch.no_grad():
        found = method.loss(batch).item()
        feature, levels = method.enriched(batch)
        outputs = [method.cls(feature), *(c(x) for c, x in zip(method.enrichment.inner_cls, levels, strict=True))]
    kept = batch.query_labels[:, 20:].numpy()
    losses = []
    for output in outputs:
        full = nn.functional.interpolate(output, (49, 65), mode="bilinear", align_corners=True)[:, :, 20:].numpy()
        score = np.where(kept == 1, full[:, 1] - full[:, 0], full[:, 0] - full[:, 1])
        losses.append(np.log1p(np.exp(-score)).mean())
    assert found == pytest.approx(losses[0] + 0.5 * np.mean(losses[1:]), rel=1e-4)


def test_training_runs_the_last_stage_on_the_query_and_the_masked_supports_only() -> None:
    method = pfenet().train()
    method.loss(episodes(method))
    counts = {name: int(n) for name, n in method.encoder.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts["body.bn1.num_batches_tracked"] == 2
    assert counts["body.blocks.6.0.bn3.num_batches_tracked"] == 2


def test_running_statistics_stay_if_so_configured() -> None:
    method = pfenet(batchnorm="running")
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    method.train().loss(episodes(method)).backward()
    assert all(torch.equal(value, before[name]) for name, value in method.encoder.state_dict().items())


def test_only_the_head_is_trained() -> None:
    method = pfenet().train()
    method.loss(episodes(method)).backward()
    trained = {name.split(".")[0] for name, value in method.named_parameters() if value.grad is not None}
    assert trained == {"down_query", "down_supp", "enrichment", "cls"}


def test_head_has_as_many_parameters_as_published() -> None:
    count = sum(value.numel() for value in PFENet(PFENetConfig()).parameters() if value.requires_grad)
    assert round(count / 1e6, 1) == 10.8


def official(method: PFENet) -> dict[str, Tensor]:
    """The method's weights under the names of the authors' checkpoint, for the deep-stem ResNet."""
    state = {}
    for name, value in method.state_dict().items():
        theirs = name.replace("encoder.body.conv1.", "layer0.").replace("encoder.body.bn1.", "layer0.7.")
        state[f"module.{theirs.removeprefix('encoder.body.').removeprefix('enrichment.')}"] = value
    return state


def test_a_checkpoint_that_does_not_fit_is_refused_by_name() -> None:
    method = PFENet(PFENetConfig())
    state = official(method)
    assert len(state) == 365
    method.load_official(state)
    missing = dict(state)
    del missing["module.cls.3.bias"]
    with pytest.raises(CheckpointError, match=r"missing: cls\.3\.bias"):
        method.load_official(missing)
    with pytest.raises(CheckpointError, match="not known: extra"):
        method.load_official(state | {"module.extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"encoder\.body\.conv1"):
        PFENet(PFENetConfig(deep_stem=False)).load_official(state)
