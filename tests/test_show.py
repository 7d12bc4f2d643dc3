"""Drawing episodes."""

from pathlib import Path

import numpy as np
import pytest
from command_line import fssbench
from PIL import Image
from toy_data import few_shapes

from fssbench.banks.bank import Bank, open_bank
from fssbench.errors import BankError, UsageError
from fssbench.show import (
    WAYS,
    Panel,
    contact_sheet,
    episode_picture,
    grid,
    overlay,
    overlay_codes,
    row,
    spread,
    truth_labels,
)

GREY = Image.new("RGB", (30, 20), (100, 100, 100))


@pytest.fixture(scope="module")
def bank_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of ten 2-way 2-shot episodes of shapes5i with boxes."""
    path = tmp_path_factory.mktemp("bank") / "shapes.h5"
    words = ["generate-episodes", "shapes5i", "--ways", "2", "--shots", "2", "--episodes", "10", "--folds", "0", "2"]
    with few_shapes():
        fssbench(*words, "--annotations", "box,point", "--workers", "1", "--out", path)
    return path


@pytest.fixture(scope="module")
def bank(bank_path: Path) -> Bank:
    return open_bank(bank_path)


def mask_of(value: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:25] = value
    return mask


def at(image: Image.Image, x: int, y: int) -> np.ndarray:
    return np.array(image.getpixel((x, y)), dtype=float)


@pytest.mark.parametrize("way", [1, 2, 3])
def test_a_label_takes_the_colour_of_its_way_and_its_outline_is_solid(way: int) -> None:
    drawn = overlay(GREY, mask_of(way))
    colour = np.array(WAYS[way - 1], dtype=float)
    np.testing.assert_array_equal(at(drawn, 5, 10), colour)
    inside = at(drawn, 15, 10)
    expected = 0.55 * colour + 0.45 * 100  # a weighted mean of colour and image
    np.testing.assert_allclose(inside, expected, atol=0.51)


def test_without_fading_what_is_not_labelled_is_left_as_it_is() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    drawn = np.asarray(overlay(photo, mask_of(1), fade=0))
    outside = mask_of(1) == 0
    np.testing.assert_array_equal(drawn[outside], np.asarray(photo)[outside])


def test_what_is_not_labelled_fades_to_grey() -> None:
    red, green, blue = at(overlay(Image.new("RGB", (30, 20), (255, 0, 0)), mask_of(1), fade=1), 1, 1)
    assert red == green == blue


def test_void_is_light_grey_and_a_boolean_mask_will_do() -> None:
    red, green, blue = at(overlay(GREY, mask_of(255)), 15, 10)
    assert red == green == blue > 150
    assert overlay(GREY, mask_of(1) > 0).tobytes() == overlay(GREY, mask_of(1)).tobytes()


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(UsageError, match="20 x 30 as the image, found 30 x 20"):
        overlay(GREY, mask_of(1).T)


def test_object_background_and_unlabelled_codes_look_different() -> None:
    codes = np.full((20, 30), 3, np.uint8)
    codes[:, :10], codes[:, 20:] = 1, 0
    drawn = overlay_codes(GREY, codes)
    assert at(drawn, 4, 10)[0] > at(drawn, 4, 10)[2] + 50  # reddish
    assert at(drawn, 25, 10)[2] > at(drawn, 25, 10)[0] + 50  # bluish
    assert np.ptp(at(drawn, 15, 10)) == 0  # grey


def test_a_row_is_as_wide_as_its_scaled_panels_and_shows_them_from_left_to_right() -> None:
    panels = [Panel(Image.new("RGB", (50, 100), colour), "x") for colour in ("red", "lime")]
    drawn = row(panels, height=80)
    assert drawn.width >= 2 * 40
    np.testing.assert_array_equal(at(drawn, 20, 40), (255, 0, 0))
    np.testing.assert_array_equal(at(drawn, drawn.width - 20, 40), (0, 255, 0))


def test_captions_are_written_below_the_image_and_long_ones_do_not_widen_it() -> None:
    drawn = row([Panel(Image.new("RGB", (80, 80), "white"), "a caption much too long for so small an image")], 80)
    assert drawn.width == 80
    below = np.asarray(drawn.convert("L"))[82:]
    assert below.min() < 120
    assert np.asarray(drawn.convert("L"))[:80].min() == 255


def test_a_grid_breaks_into_rows(bank: Bank) -> None:
    panels = [Panel(GREY, str(i)) for i in range(5)]
    assert grid(panels, 2).height > 2.5 * grid(panels, 5).height


def test_the_truth_numbers_the_ways_as_the_episode_does(bank: Bank) -> None:
    for episode in range(10):
        drawn = bank.episodes(2)
        labels = bank.masks.layers(int(drawn.query[episode])).maps[0]
        truth = truth_labels(bank, 2, episode)
        for way in (1, 2):
            np.testing.assert_array_equal(truth == way, labels == drawn.classes[episode, way - 1])
        np.testing.assert_array_equal(truth == 255, labels == 255)


def test_more_shots_ways_and_annotations_make_a_larger_picture(bank: Bank) -> None:
    plain = episode_picture(bank, 0, 3, 1, ways=[1], kinds=[])
    assert episode_picture(bank, 0, 3, 2, ways=[1], kinds=[]).height > 1.5 * plain.height
    assert episode_picture(bank, 0, 3, 1, kinds=[]).width > 1.3 * plain.width
    boxed = episode_picture(bank, 0, 3, 1, ways=[1], kinds=["box"])
    assert boxed.width > plain.width
    assert episode_picture(bank, 0, 3, 1, ways=[1]).width > boxed.width


def test_a_prediction_is_drawn_beside_the_truth(bank: Bank) -> None:
    truth = truth_labels(bank, 0, 0)
    plain = episode_picture(bank, 0, 0, 1, kinds=[])
    drawn = episode_picture(bank, 0, 0, 1, kinds=[], predictions=[("ours", truth)])
    right, beside = (
        drawn.crop((drawn.width - 176, 30, drawn.width, 190)),
        drawn.crop((drawn.width - 2 * 176 - 6, 30, drawn.width - 176 - 6, 190)),
    )
    assert drawn.width == plain.width + 176 + 6
    assert right.tobytes() == beside.tobytes()


def test_episodes_of_a_sheet_are_spread_over_all_folds_or_over_one(bank: Bank) -> None:
    assert {fold for fold, _ in spread(bank, 4)} == {0, 2}
    assert len(set(spread(bank, 4))) == 4
    assert {fold for fold, _ in spread(bank, 4, fold=2)} == {2}
    assert len(spread(bank, 1000)) == 20
    assert contact_sheet(bank, spread(bank, 2)).height < contact_sheet(bank, spread(bank, 3)).height


@pytest.mark.parametrize("episode", [-1, 10])
def test_an_episode_that_is_not_there_is_refused_with_the_range(bank: Bank, episode: int) -> None:
    with pytest.raises(UsageError, match=f"0 to 9, found {episode}"):
        episode_picture(bank, 0, episode)


def test_a_way_or_an_annotation_that_is_not_there_is_refused(bank: Bank) -> None:
    with pytest.raises(UsageError, match="1 to 2, found 3"):
        episode_picture(bank, 0, 0, ways=[3])
    with pytest.raises(BankError, match="scribble"):
        episode_picture(bank, 0, 0, kinds=["scribble"])


def test_the_command_writes_a_png_and_never_overwrites_without_force(bank_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    fssbench("show", bank_path, "--episode", "3", "--fold", "2", "--shots", "1", "--out", out)
    with Image.open(out) as image:
        assert image.format == "PNG"
    before = out.read_bytes()
    fssbench("show", bank_path, "--sheet", "4", "--out", out, status=2)
    assert out.read_bytes() == before
    fssbench("show", bank_path, "--sheet", "4", "--out", out, "--force")
    assert out.read_bytes() != before


def test_the_bank_alone_is_enough_for_its_first_episode(
    bank_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fssbench("show", bank_path)
    fssbench("show", bank_path, "--episode", "0", "--folds", "0", "--out", "same.png")
    assert Path("episode.png").read_bytes() == Path("same.png").read_bytes()
    done = fssbench("show", bank_path, "--episode", "0", "--sheet", "4", "--out", "x.png", status=2)
    assert "either --episode or --sheet" in done.err
