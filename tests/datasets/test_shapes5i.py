"""shapes5i, the rendered data set."""

import hashlib
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from fssbench.datasets.registry import open_dataset
from fssbench.datasets.shapes5i import Shapes5i, scene
from fssbench.errors import DataError, UsageError

# SHA-256 over label maps' pixels, in order: of all 800 and of every fourth. Written down on x86-64, NumPy 2.4. Another
# value on another machine would mean that two people's banks differ.
GOLDEN_LABELS = "468d7c1a3645eddd1cfa33443aa9fd6482720750fabd6539d25119dc1c4caaaa"
GOLDEN_FOURTH = "c519dc9a57f0ee5c8ba3689e76e7361521cee5fc1b8142505c237207c0437f9b"


def decoded(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


@pytest.fixture(scope="module")
def shapes() -> Shapes5i:
    return Shapes5i()


@pytest.fixture(scope="module")
def maps(shapes: Shapes5i) -> dict[str, np.ndarray]:
    """Every fourth: ten of each class."""
    return {image_id: decoded(shapes.mask(image_id).encoded) for image_id in shapes.image_ids()[::4]}


def test_needs_no_root_and_has_twenty_classes_in_four_folds_of_five() -> None:
    shapes = open_dataset("shapes5i")
    assert len(shapes.image_ids()) == 800
    assert sorted(itertools.chain(*shapes.folds)) == list(range(1, 21)) == sorted(shapes.class_names)
    assert [len(fold) for fold in shapes.folds] == [5, 5, 5, 5]


def test_held_out_classes_are_new_combinations_of_seen_shapes_and_seen_textures() -> None:
    names = {c: tuple(name.split()) for c, name in Shapes5i.class_names.items()}
    assert len(set(names.values())) == 20
    for fold in Shapes5i.folds:
        seen = [names[c] for c in names if c not in fold]
        for c in fold:
            texture, shape = names[c]
            assert texture in {t for t, _ in seen}
            assert shape in {s for _, s in seen}


def test_most_images_show_other_classes_too(maps: dict[str, np.ndarray]) -> None:
    others = [len(set(np.unique(labels)) - {0, 255, int(i.split("-")[1])}) for i, labels in maps.items()]
    assert np.mean(np.array(others) >= 1) > 0.9


@pytest.mark.parametrize(
    ("step", "golden"), [(4, GOLDEN_FOURTH), pytest.param(1, GOLDEN_LABELS, marks=pytest.mark.slow)]
)
def test_label_maps_are_the_same_on_every_machine_and_show_their_class_large_enough(
    shapes: Shapes5i, step: int, golden: str
) -> None:
    digest = hashlib.sha256()
    for image_id in shapes.image_ids()[::step]:
        labels = decoded(shapes.mask(image_id).encoded)
        digest.update(labels.tobytes())
        assert (labels == int(image_id.split("-")[1])).sum() >= Shapes5i.min_area
    assert digest.hexdigest() == golden


def test_two_renderings_of_an_image_have_the_same_bytes(shapes: Shapes5i) -> None:
    other = Shapes5i()
    for image_id in shapes.image_ids()[::97]:
        first, again = shapes.image_bytes(image_id), other.image_bytes(image_id)
        assert first == again
        scene.cache_clear()
        assert other.image_bytes(image_id) == first


def test_images_are_rgb_and_masks_are_grey_of_one_size(shapes: Shapes5i) -> None:
    image, mask = decoded(shapes.image_bytes("test-07-03")), decoded(shapes.mask("test-07-03").encoded)
    assert image.shape == (256, 256, 3)
    assert mask.shape == (256, 256)
    assert image.dtype == mask.dtype == np.uint8


def test_where_two_figures_meet_there_is_a_border_of_void(maps: dict[str, np.ndarray]) -> None:
    for labels in list(maps.values())[::12]:
        inner = labels.astype(int)
        for a, b in ((inner[1:], inner[:-1]), (inner[:, 1:], inner[:, :-1])):
            meeting = (a != b) & (a != 255) & (b != 255)
            assert not meeting.any()
        assert 0 < (labels == 255).mean() < 0.12


def test_colour_does_not_tell_the_class(shapes: Shapes5i, maps: dict[str, np.ndarray]) -> None:
    """The mean colours of a class's objects vary as widely within the class as over all classes."""
    colours: dict[int, list[np.ndarray]] = {}
    for image_id in list(maps)[::2]:
        class_id = int(image_id.split("-")[1])
        pixels = decoded(shapes.image_bytes(image_id))[maps[image_id] == class_id]
        colours.setdefault(class_id, []).append(pixels.mean(axis=0))
    within = np.mean([np.var(values, axis=0) for values in colours.values()])
    overall = np.var(np.concatenate(list(colours.values())), axis=0).mean()
    assert within / overall > 0.65  # 5 a class: 4/5 is expected


def test_training_images_without_novel_classes_never_show_a_held_out_class() -> None:
    train = Shapes5i(pool="no-novel")
    for fold in range(4):
        ids = train.fold_image_ids(fold)
        assert 300 < len(ids) < len(Shapes5i(pool="train").fold_image_ids(fold)) == 1600
        assert not set(train.fold_classes(fold)) & set(train.folds[fold])
        for image_id in ids[::25]:
            assert not set(np.unique(decoded(train.mask(image_id).encoded))) & set(train.folds[fold])


def test_training_and_test_images_are_different_ones() -> None:
    train, test = Shapes5i(pool="train"), Shapes5i()
    assert not set(train.image_ids()) & set(test.image_ids())
    assert train.image_bytes("train-03-01") != test.image_bytes("test-03-01")


@pytest.mark.parametrize("image_id", ["test-21-00", "test-00-00", "test-01-40", "nowhere-01-00", "test-1-0", "x"])
def test_an_image_that_does_not_exist_is_refused_by_name(shapes: Shapes5i, image_id: str) -> None:
    with pytest.raises(DataError, match=image_id):
        shapes.image_bytes(image_id)


def test_an_unknown_list_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no-novel, test, train"):
        Shapes5i(pool="trian")
