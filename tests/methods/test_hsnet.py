"""HSNet beyond its parity cases: what the encoders give, voting, other shapes and backbones, checkpoints."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fssbench.errors import CheckpointError, EmptySupportWarning, MethodError
from fssbench.method import EpisodeBatch, build_episodes
from methods.hsnet import HSNet, HSNetConfig, HypercorrelationLearner


def hsnet(backbone: str = "efficientnet_lite0", **options: object) -> HSNet:
    torch.manual_seed(0)
    return HSNet(HSNetConfig.model_validate({"backbone": backbone, **options})).eval()


def episodes(
    method: HSNet, shots: int = 1, *, size: tuple[int, int] = (64, 64), truth: Tensor | None = None
) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, *size, generator=generator)
    support = torch.randn(2, 1, shots, 3, *size, generator=generator)
    labels = (torch.rand(2, 1, shots, *size, generator=generator) > 0.6).to(torch.uint8)
    return build_episodes(method, query, support, labels, truth)


def logits(method: HSNet, batch: EpisodeBatch) -> Tensor:
    with torch.no_grad():
        return method.segment(batch)


def test_a_pixel_is_foreground_with_half_of_the_most_votes_in_its_image() -> None:
    votes = torch.tensor([[[2, 1, 0, 0]], [[5, 3, 2, 0]], [[0, 0, 0, 0]], [[3, 2, 1, 0]]])
    shots = torch.stack([(votes > k).long() for k in range(5)], dim=1)  # B x K x 1 x 4
    masks = HSNet.decide(hsnet(), torch.stack([1 - shots, shots], dim=2))
    assert masks[:, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]


def test_one_shot_is_the_argmax() -> None:
    scores = torch.randn(2, 1, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hsnet().decide(scores), scores[:, 0].argmax(1))


def test_every_shot_is_segmented_as_if_alone() -> None:
    method = hsnet()
    batch = episodes(method, 3)
    found = logits(method, batch)
    for shot in range(3):
        one = {name: value[:, :, shot : shot + 1] for name, value in batch.support.items()}
        alone = EpisodeBatch(batch.query, one, (2, 1, 1), batch.query_shape, batch.load_support_labels)
        torch.testing.assert_close(found[:, shot : shot + 1], logits(method, alone), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [(96, 64), (64, 129)])
def test_inputs_need_not_be_square_nor_of_one_size(size: tuple[int, int]) -> None:
    method = hsnet()
    before = logits(method, episodes(method))
    assert logits(method, episodes(method, size=size)).shape == (2, 1, 2, 2 * -(-size[0] // 8), 2 * -(-size[1] // 8))
    assert torch.equal(logits(method, episodes(method)), before)


def test_logits_do_not_depend_on_how_much_memory_correlations_may_take() -> None:
    method = hsnet()
    batch = episodes(method, 3, size=(160, 160))
    tight = hsnet()
    tight.work_bytes = 1 << 20
    torch.testing.assert_close(logits(method, batch), logits(tight, batch), atol=1e-6, rtol=1e-4)


def test_a_query_is_repeated_only_for_the_shots_that_are_compared_now(monkeypatch: pytest.MonkeyPatch) -> None:
    method = hsnet()
    method.work_bytes = 1 << 20
    waiting = []
    forward = method.learner.forward

    def watched(query: list[list[Tensor]], support: list[list[Tensor]], budget: int) -> Tensor:
        waiting.extend(maps.untyped_storage().nbytes() - maps.nbytes for level in query for maps in level)
        return forward(query, support, budget)

    monkeypatch.setattr(method.learner, "forward", watched)
    logits(method, episodes(method, 3, size=(160, 160)))
    assert waiting
    assert max(waiting) == 0


def test_an_empty_support_mask_gives_finite_logits() -> None:
    method = hsnet()
    images = torch.randn(1, 3, 64, 64)
    empty = torch.zeros(1, 1, 1, 64, 64, dtype=torch.uint8)
    with pytest.warns(EmptySupportWarning, match="1 of 1 supports"):
        batch = build_episodes(method, images, images[None, None], empty)
    assert torch.isfinite(logits(method, batch)).all()


def test_the_loss_is_over_labelled_pixels_and_the_papers_recipe_labels_void_as_background() -> None:
    assert HSNet.recipes["paper"].stages[0].void == "background"
    method = hsnet()
    truth = torch.randint(0, 2, (2, 64, 64), generator=torch.Generator().manual_seed(3))
    truth[:, :16] = 255
    batch = episodes(method, truth=truth)
    with torch.no_grad():
        found = method.loss(batch).item()
        full = nn.functional.interpolate(method.segment(batch)[:, 0], (64, 64), mode="bilinear", align_corners=True)
    margin = np.where(truth.numpy() == 1, 1, -1) * (full[:, 1] - full[:, 0]).double().numpy()
    assert found == pytest.approx(np.log1p(np.exp(-margin))[:, 16:].mean(), rel=1e-5)


def test_only_the_learner_is_trained_and_the_encoder_stays_in_eval_mode() -> None:
    method = hsnet().train()
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    method.loss(episodes(method, truth=torch.ones(2, 64, 64, dtype=torch.long))).backward()
    assert all(torch.equal(value, before[name]) for name, value in method.encoder.state_dict().items())
    trained = {name.split(".")[0] for name, value in method.named_parameters() if value.grad is not None}
    assert trained == {"learner"}
    assert all(value.grad is not None for value in method.learner.parameters())


def test_the_learner_has_as_many_parameters_as_published() -> None:
    assert sum(value.numel() for value in HypercorrelationLearner((4, 6, 3)).parameters()) == pytest.approx(
        2.57e6, rel=2e-3
    )


def test_sizes_whose_levels_cannot_be_added_are_refused() -> None:
    learner = HypercorrelationLearner((1, 1, 1))
    query = [[torch.rand(1, 4, 2, 2)] for _ in range(3)]
    support = [[torch.rand(1, 4, side, side)] for side in (65, 32, 16)]  # VGG-16 on 520 x 520
    with pytest.raises(MethodError, match=r"different sizes, \(2, 2\) and \(3, 3\)"):
        learner.encode(query, support, 2**30)


def test_a_checkpoint_is_read_without_its_classifier_and_refused_if_foreign() -> None:
    method = hsnet("vgg16")
    names = {"encoder.body.": "module.backbone.", "learner.": "module.hpn_learner."}
    state = {}
    for name, value in method.state_dict().items():
        prefix = next(prefix for prefix in names if name.startswith(prefix))
        state[names[prefix] + name.removeprefix(prefix)] = torch.full_like(value, 0.5)
    method.load_official(state | {"module.backbone.classifier.0.weight": torch.zeros(1)})
    assert all(bool((value == 0.5).all()) for value in method.state_dict().values())
    with pytest.raises(CheckpointError, match="not known: hpn_learner2"):
        method.load_official(state | {"module.hpn_learner2.weight": torch.zeros(1)})
    del state["module.hpn_learner.decoder2.2.bias"]
    with pytest.raises(CheckpointError, match=r"missing: learner\.decoder2\.2\.bias"):
        method.load_official(state)
