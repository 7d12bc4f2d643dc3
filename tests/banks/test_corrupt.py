"""Corrupted banks: the same episodes and masks with worse photographs, frozen."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_data import few_shapes

from fssbench.banks.attach import attach
from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.corrupt import Corrupted, corrupt
from fssbench.banks.corruptions import Corruption, clean_id
from fssbench.banks.generate import Request, generate
from fssbench.banks.verify import problems
from fssbench.datasets.reading import encode_png
from fssbench.datasets.shapes5i import Shapes5i
from fssbench.errors import DataError, ProtocolError, UsageError
from fssbench.protocol import CORRUPTIONS
from fssbench.protocols import FSSBENCH


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clean") / "bank.h5"
    request = Request(
        FSSBENCH.but(episodes=4, min_area=1), shots=(2,), folds=(0, 1), annotations=("scribble", "ragged-2")
    )
    with few_shapes():
        generate(Shapes5i(path.parent), request, path)
    return path


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(float)


def photo(size: tuple[int, int] = (50, 70)) -> bytes:
    rows, columns = np.mgrid[: size[0], : size[1]]
    channels = [rows * 2 % 256, columns * 2 % 256, (rows // 12 + columns // 12) % 2 * 200]
    return encode_png(np.stack(channels, axis=-1).astype(np.uint8))


def names(bank: Bank) -> list[tuple[str, list[str]]]:
    episodes = bank.episodes(0)
    return [
        (bank.image_ids[q], [bank.image_ids[i] for i in s])
        for q, s in zip(episodes.query, episodes.support[:, 0], strict=True)
    ]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_severity_is_further_from_the_photograph(kind: str) -> None:
    found = [Corruption(kind, n, "both").apply(photo(), "a") for n in (1, 3, 5)]
    error = [np.abs(pixels(each) - pixels(photo())).mean() for each in found]
    assert 0.5 < error[0] < error[1] < error[2]
    assert {pixels(each).shape for each in found} == {(50, 70, 3)}


def test_noise_is_one_pattern_for_an_image_and_another_for_every_other_image_and_seed() -> None:
    grey = encode_png(np.full((40, 50, 3), 128, np.uint8))

    def noise(severity: int, name: str, seed: int = 0) -> np.ndarray:
        return pixels(Corruption("gaussian_noise", severity, "both", seed).apply(grey, name)) - 128

    first = noise(1, "a")
    np.testing.assert_array_equal(first, noise(1, "a"))
    seed = np.frombuffer(hashlib.sha256(b"0 gaussian_noise a").digest(), dtype="<u4")
    drawn = 128 / 255 + np.random.RandomState(seed).normal(scale=0.08, size=(40, 50, 3))
    np.testing.assert_array_equal(first, (drawn.clip(0, 1) * 255).astype(np.uint8).astype(float) - 128)
    for severity, sigma in enumerate((0.08, 0.12, 0.18, 0.26, 0.38), start=1):  # ImageNet-C's
        low, high = np.percentile(noise(severity, "a"), [25, 75])  # what is cut off at black and white does not matter
        assert (high - low) / 1.349 == pytest.approx(sigma * 255, rel=0.05)
    assert np.corrcoef(first.ravel(), noise(2, "a").ravel())[0, 1] > 0.99
    assert abs(np.corrcoef(first.ravel(), noise(1, "b").ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(first.ravel(), noise(1, "a", seed=1).ravel())[0, 1]) < 0.1


def test_contrast_brightness_and_blur_do_what_their_formulas_say() -> None:
    half = np.full((40, 40, 3), 100, np.uint8)
    half[:, 20:] = 200
    for severity, (share, more) in enumerate(((0.4, 0.1), (0.3, 0.2), (0.2, 0.3), (0.1, 0.4), (0.05, 0.5)), start=1):
        low = pixels(Corruption("contrast", severity, "both").apply(encode_png(half), "a"))
        np.testing.assert_allclose([low[0, 0, 0], low[0, -1, 0]], [150 - share * 50, 150 + share * 50], atol=1)
        bright = pixels(Corruption("brightness", severity, "both").apply(encode_png(half), "a"))
        expected = [100 + more * 255, min(255, 200 + more * 255)]
        np.testing.assert_allclose([bright[0, 0, 0], bright[0, -1, 0]], expected, atol=1)
    black = pixels(Corruption("brightness", 1, "both").apply(encode_png(np.zeros((4, 4, 3), np.uint8)), "a"))
    assert np.unique(black).tolist() == [25]  # of a hue there is none, 0.1 of white
    blurred = pixels(Corruption("defocus_blur", 1, "both").apply(encode_png(half), "a"))
    np.testing.assert_allclose([blurred[20, 10, 0], blurred[20, 30, 0]], [100, 200], atol=1)
    assert 100 < blurred[20, 18, 0] < blurred[20, 21, 0] < 200


def test_larger_pixels_of_one_grey_are_that_grey() -> None:
    for grey in range(256):
        flat = encode_png(np.full((8, 8, 3), grey, np.uint8))
        assert np.unique(pixels(Corruption("pixelate", 3, "both").apply(flat, "a"))).tolist() == [grey]


@pytest.mark.parametrize("target", ["queries", "supports", "both"])
def test_only_the_images_of_the_role_are_corrupted_and_the_episodes_stay(
    clean: Path, tmp_path: Path, target: str
) -> None:
    with open_bank(clean) as before:
        corrupt(before, Corruption("contrast", 5, target), tmp_path / "worse.h5")
        with open_bank(tmp_path / "worse.h5") as after:
            assert list(problems(after)) == []
            assert after.fingerprint != before.fingerprint
            assert after.protocol.corruption == f"{target} contrast-5 seed 0"
            queries, supports = zip(*names(after), strict=True)
            assert all(name.endswith("#contrast-5") == (target != "supports") for name in queries)
            assert all(name.endswith("#contrast-5") == (target != "queries") for s in supports for name in s)
            assert names(before) == [(clean_id(q), [clean_id(i) for i in s]) for q, s in names(after)]
            query, worse = int(before.episodes(0).query[0]), int(after.episodes(0).query[0])
            same = before.image_bytes(query) == after.image_bytes(worse)
            assert same == (target == "supports")
            assert before.masks.hashes(query) == after.masks.hashes(worse)
            support, worse = int(before.episodes(0).support[0, 0, 0]), int(after.episodes(0).support[0, 0, 0])
            class_id = int(before.episodes(0).classes[0, 0])
            for kind in ("scribble", "ragged-2"):
                np.testing.assert_array_equal(
                    before.masks.annotation(kind, support, class_id), after.masks.annotation(kind, worse, class_id)
                )


def test_an_index_of_a_corrupted_bank_is_attached_to_the_clean_data(clean: Path, tmp_path: Path) -> None:
    noise = Corruption("gaussian_noise", 2, "queries", seed=3)
    with open_bank(clean) as bank:
        corrupt(bank, noise, tmp_path / "full.h5")
        corrupt(bank, noise, tmp_path / "index.h5", index=True)
    with open_bank(tmp_path / "index.h5") as index, open_bank(tmp_path / "full.h5") as full:
        attach(index, Corrupted(Shapes5i(tmp_path), Corruption.parse(index.protocol.corruption)), tmp_path / "again.h5")
        with open_bank(tmp_path / "again.h5") as again:
            assert again.image_fingerprint == full.image_fingerprint != ""
        other = Corrupted(Shapes5i(tmp_path), Corruption("gaussian_noise", 2, "queries", seed=4))
        with pytest.raises(DataError, match="another image file"):
            attach(index, other, tmp_path / "other.h5")
        with pytest.raises(UsageError, match="clean bank"):
            corrupt(full, noise, tmp_path / "never.h5")
    assert not (tmp_path / "never.h5").exists()


@pytest.mark.parametrize(
    "values", [("fogg", 3, "queries"), ("fog", 6, "queries"), ("fog", 0, "queries"), ("fog", 3, "query")]
)
def test_what_cannot_be_done_is_refused(values: tuple[str, int, str]) -> None:
    with pytest.raises(UsageError):
        Corruption(*values)


def test_a_clean_protocol_keeps_its_hash_and_a_foreign_corruption_is_refused() -> None:
    assert FSSBENCH.but(corruption="").hash == FSSBENCH.hash != FSSBENCH.but(corruption="both fog-3 seed 0").hash
    with pytest.raises(ProtocolError):
        FSSBENCH.but(corruption="both fog-9 seed 0")
