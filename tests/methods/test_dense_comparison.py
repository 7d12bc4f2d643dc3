"""The parts that CANet, PMMs and RPMMs share."""

import pytest
import torch
import torch.nn.functional as F

from methods.dense_comparison import DenseComparison, TiledConv, middle_encoder, renamed


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [(7, 5), (1, 2), (3, 9)])
def test_comparing_without_tiling_equals_a_convolution_of_the_tiled_map(dilation: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = TiledConv(6, dilation)
    maps, vectors = torch.randn(2, 6, *size), torch.randn(2, 3, 6)
    for shot in range(3):
        tiled = vectors[:, shot, :, None, None].expand(-1, -1, *size)
        expected = F.conv2d(torch.cat([maps, tiled], 1), conv.weight, conv.bias, padding=dilation, dilation=dilation)
        torch.testing.assert_close(conv(maps, vectors)[:, shot], expected, atol=1e-5, rtol=1e-5)


def test_training_normalises_the_comparison_with_each_vector_apart() -> None:
    torch.manual_seed(0)
    compare = DenseComparison(8, norm=True).train()
    query, vectors = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 8)
    together = compare(query, vectors)
    for shot in range(3):
        alone = compare(query, vectors[:, shot : shot + 1])[:, 0]
        torch.testing.assert_close(together[:, shot], alone, atol=1e-4, rtol=1e-4)


def test_evaluation_normalises_by_the_running_statistics() -> None:
    torch.manual_seed(0)
    compare = DenseComparison(8, norm=True).eval()
    norm = compare.norm
    assert norm is not None
    for statistic in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        torch.nn.init.uniform_(statistic, 0.5, 2)  # type: ignore[arg-type]
    query, vectors = torch.randn(2, 8, 5, 5), torch.randn(2, 3, 8)
    plain = compare.conv(query, vectors).flatten(0, 1)
    expected = F.batch_norm(plain, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(compare(query, vectors).flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "grid"), [("resnet50", (9, 7)), ("vgg16_bn", (8, 6)), ("efficientnet_lite0", (8, 6))])
def test_middle_level_features_have_stride_8_on_every_backbone(name: str, grid: tuple[int, int]) -> None:
    encoder, stages = middle_encoder(name)
    with torch.no_grad():
        maps = encoder.eval()(torch.randn(1, 3, 64, 48))
    assert {tuple(maps[stage].shape[1:]) for stage in stages} == {(encoder.channels[s], *grid) for s in stages}


def test_renaming_takes_whole_words_and_the_longest_match() -> None:
    names = {"layer5": "reduce", "layer55.0": "compare.conv", "layer55": "wrong"}
    state = {key: torch.zeros(()) for key in ("layer5.0.weight", "layer55.0.bias", "layer555.bias", "other")}
    assert sorted(renamed(state, names)) == ["compare.conv.bias", "layer555.bias", "other", "reduce.0.weight"]
