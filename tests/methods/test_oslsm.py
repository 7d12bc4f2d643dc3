"""OSLSM beyond its parity cases: the hash, the logistic regression, the OR of shots, the loss, checkpoints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fssbench.engine.inputs import fit_image, normalise
from fssbench.errors import CheckpointError
from fssbench.method import EpisodeBatch, SupportBatch, build_episodes
from methods.oslsm import (
    OSLSM,
    FrozenUpsampling,
    OSLSMConfig,
    draw_hash,
    fold_preprocessing,
    hash_matrix,
    regress,
)

SIDE = 64


def small(**options: object) -> OSLSM:
    torch.manual_seed(0)
    chosen = {"backbone": "efficientnet_lite0", "size": (SIDE, SIDE), "support_size": (SIDE, SIDE)} | options
    return OSLSM(OSLSMConfig.model_validate({"width": 16, "codes": 8} | chosen)).eval()


@pytest.fixture(scope="module")
def method() -> OSLSM:
    return small()


def episodes(method: OSLSM, shots: slice = slice(None)) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 3, SIDE, SIDE, generator=generator)
    support = torch.randn(2, 1, 3, 3, SIDE, SIDE, generator=generator)
    labels = (torch.rand(2, 1, 3, SIDE, SIDE, generator=generator) > 0.6).to(torch.uint8)
    truth = torch.randint(0, 2, (2, SIDE, SIDE), generator=generator)
    truth[:, :4] = 255
    with torch.no_grad():
        return build_episodes(method, query, support[:, :, shots], labels[:, :, shots], truth)


def test_a_hashed_weight_is_one_code_with_a_sign() -> None:
    kappa, zeta = draw_hash(codes=10, weights=33, seed=5)
    codes = np.random.default_rng(0).standard_normal(10).astype(np.float32)
    hashed = hash_matrix(kappa, zeta, codes=10) @ torch.from_numpy(codes)
    np.testing.assert_array_equal(hashed.numpy(), [z * codes[k] for k, z in zip(kappa, zeta, strict=True)])


def test_the_draw_repeats_by_seed_and_has_fair_signs_and_all_codes() -> None:
    kappa, zeta = draw_hash(codes=100, weights=4097, seed=0)
    again, other = draw_hash(100, 4097, 0), draw_hash(100, 4097, 1)
    np.testing.assert_array_equal((kappa, zeta), again)
    assert not np.array_equal(kappa, other[0])
    assert set(kappa) == set(range(100))
    assert set(zeta) == {-1, 1}
    assert abs(zeta.mean()) < 0.05


def test_the_hash_is_saved_but_not_trained(method: OSLSM) -> None:
    frozen = {"rw1s.weight", "rw1s.bias", "rb1s.weight", "rb1s.bias", "uppred_offset.weight"}
    assert frozen <= set(method.state_dict())
    assert not frozen & {name for name, _ in method.named_parameters()}
    other = small(hash_seed=1)
    assert not torch.equal(other.rw1s.get_buffer("weight"), method.rw1s.get_buffer("weight"))
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.rw1s.get_buffer("weight"), method.rw1s.get_buffer("weight"))


def test_logistic_regression_is_a_dot_product_at_every_position() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # 1 x 2 x 1 x 2
    weights, biases = torch.tensor([[[10.0, 1.0], [0.0, -2.0]]]), torch.tensor([[0.5, 0.0]])
    expected = [[[[13.5, 19.5]], [[-6.0, 2.0]]]]
    assert regress(features, weights, biases).tolist() == expected


def test_the_fixed_deconvolution_is_bilinear_interpolation_inside() -> None:
    low = torch.rand(1, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    found = FrozenUpsampling()(low, (200, 240))
    reference = F.interpolate(low, scale_factor=32, mode="bilinear", align_corners=False)
    # The deconvolution pads with half a stride all around, of which the crop keeps all but 40 pixels.
    np.testing.assert_allclose(found[..., 8:, 8:], reference[..., 32:224, 32:264], atol=1e-5)


@pytest.mark.parametrize(("side", "cells"), [(97, 5), (129, 6), (500, 18)])
def test_the_padded_query_leaves_as_many_cells_as_the_prototxt_and_covers_the_query(side: int, cells: int) -> None:
    with torch.device("meta"):
        method = OSLSM(OSLSMConfig.model_validate({"width": 2, "codes": 2, "support_size": (32, 32)})).to("meta")
        features = method.encode(torch.empty(1, 3, side, side))["fc7"]
        assert features.shape[2:] == (cells, cells)
        assert method.uppred_offset(features[:, :1], (side, side)).shape[2:] == (side, side)


def test_shots_are_joined_by_or(method: OSLSM) -> None:
    generator = torch.Generator().manual_seed(1)
    fc7, codes = torch.randn(2, 16, 4, 4, generator=generator), torch.randn(2, 1, 3, 8, generator=generator)

    def mask(shots: slice) -> Tensor:
        batch = replace(episodes(method), query={"fc7": fc7}, support={"code": codes[:, :, shots]})
        return method.decide(method.segment(batch)).bool()

    each = torch.stack([mask(slice(k, k + 1)) for k in range(3)])
    assert torch.equal(mask(slice(None)), each.any(0))
    assert not torch.equal(each.any(0), each.all(0))


def test_a_pixel_is_object_where_the_sigmoid_exceeds_one_half(method: OSLSM) -> None:
    batch = episodes(method, slice(1))
    with torch.no_grad():
        logits, scores = method.segment(batch), method.scores(batch)
    assert torch.equal(method.decide(logits).bool(), scores[:, 0].sigmoid() > 0.5)


def test_only_object_pixels_of_a_support_count(method: OSLSM) -> None:
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    labels[:, 10:40, 10:40] = 1
    labels[:, :5] = 255
    changed = torch.where(labels.unsqueeze(1) == 1, pixels, -pixels)
    with torch.no_grad():
        codes = [method.encode_support(SupportBatch({}, labels, lambda x=x: x))["code"] for x in (pixels, changed)]
    assert torch.equal(*codes)


def test_the_loss_is_summed_over_labelled_pixels_and_divided_by_the_batch(method: OSLSM) -> None:
    assert OSLSM.recipes["paper"].stages[0].void == "background"  # the authors' labels know no void
    batch = episodes(method, slice(1))
    assert batch.query_labels is not None
    with torch.no_grad():
        logit, loss = method.scores(batch)[:, 0].double().numpy(), method.loss(batch)
    target = batch.query_labels.numpy() == 1
    known = batch.query_labels.numpy() != 255
    assert not known.all()
    expected = np.log1p(np.exp(np.where(target, -logit, logit)))[known].sum() / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_pixels_are_bgr_on_a_scale_of_255_less_the_mean() -> None:
    with torch.device("meta"):
        method = OSLSM(OSLSMConfig.model_validate({"width": 2, "codes": 2}))
    image = Image.new("RGB", (30, 20), (200, 100, 50))
    support, query = (normalise(fit_image(image, how), how) for how in (method.support_input, method.query_input))
    assert (support.shape, query.shape) == ((3, 224, 224), (3, 500, 500))
    expected = [50 - 255 * 0.40787055, 100 - 255 * 0.45752459, 200 - 255 * 0.4810938]
    np.testing.assert_allclose(support[:, 0, 0], expected, rtol=1e-5)


def test_imagenet_weights_see_what_they_were_trained_on() -> None:
    generator = np.random.default_rng(0)
    rgb = generator.uniform(size=(1, 3, 8, 8)).astype(np.float32)
    theirs = (rgb - np.reshape([0.485, 0.456, 0.406], (1, 3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (1, 3, 1, 1))
    caffe = (rgb - np.reshape([0.4810938, 0.45752459, 0.40787055], (1, 3, 1, 1)))[:, ::-1] * 255
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)

    def convolved(pixels: np.ndarray) -> Tensor:
        with torch.no_grad():
            result: Tensor = conv(torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)))
        return result

    expected = convolved(theirs)
    fold_preprocessing(conv)
    np.testing.assert_allclose(convolved(caffe), expected, atol=1e-5)


def test_the_conditioning_branch_learns_at_a_tenth_and_biases_twice_as_fast_without_decay(method: OSLSM) -> None:
    groups = method.parameter_groups()
    assert groups["fc6s.weight"] == (1.0, 1.0)
    assert groups["fc7s.bias"] == (2.0, 0.0)
    assert groups["fc8f.weight"] == (0.1, 1.0)
    assert groups["fc6f.bias"] == (0.2, 0.0)
    assert set(groups) == {name for name, _ in method.named_parameters()}


def test_an_official_checkpoint_needs_vgg16_and_every_layer(method: OSLSM) -> None:
    with pytest.raises(CheckpointError, match="expected --backbone vgg16, found efficientnet_lite0"):
        method.load_official({})
    with torch.device("meta"):
        vgg = OSLSM(OSLSMConfig.model_validate({"width": 2, "codes": 2}))
    with pytest.raises(CheckpointError, match=r"missing: .*not known: data"):
        vgg.load_official({"data.weight": torch.zeros(1)})
