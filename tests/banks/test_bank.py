"""A bank gives back what was frozen: images, masks, episodes, for any process."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from fssbench.banks.bank import Bank, open_bank
from fssbench.banks.generate import Request, generate
from fssbench.banks.newest import newest_bank
from fssbench.banks.text import episode_lines
from fssbench.datasets.pascal5i import Pascal5i
from fssbench.errors import BankError, ProtocolError
from fssbench.protocol import Protocol
from fssbench.protocols import FSSBENCH, HSNET, PROTOCOLS

SMALL = FSSBENCH.but(episodes=12, min_area=100)


@pytest.fixture(scope="module")
def bank_path(small_voc_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "bank.h5"
    request = Request(SMALL, shots=(3,), annotations=("box", "point"), auxiliary=2)
    generate(Pascal5i(small_voc_original), request, path)
    return path


def voc_file(root: Path, folder: str, image_id: str, ending: str) -> Path:
    return root / "VOCdevkit" / "VOC2012" / folder / f"{image_id}.{ending}"


def test_images_and_masks_are_the_data_sets_own_bytes(bank_path: Path, small_voc_original: Path) -> None:
    with open_bank(bank_path) as bank:
        assert len(bank.image_ids) > 20
        for i, image_id in enumerate(bank.image_ids):
            image = voc_file(small_voc_original, "JPEGImages", image_id, "jpg").read_bytes()
            assert bank.image_bytes(i) == image
            assert bank.image_sha256(i) == hashlib.sha256(image).hexdigest()
            mask = voc_file(small_voc_original, "SegmentationClassAug", image_id, "png").read_bytes()
            assert bank.masks.files(i)[0].encoded == mask
            assert (bank.masks.layers(i).maps[0] == np.asarray(Image.open(io.BytesIO(mask)))).all()
        assert set(map(tuple, bank.image_sizes.tolist())) == {(48, 64)}


def test_only_images_that_some_episode_uses_are_stored(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        used: set[int] = set()
        for fold in bank.fold_classes:
            episodes = bank.episodes(fold)
            assert episodes.auxiliary is not None
            used |= {*episodes.query, *episodes.support.ravel(), *episodes.auxiliary.ravel()}
        assert used == set(range(len(bank.image_ids)))
        assert len(used) < 160  # the data set has more


def test_every_support_shows_its_class_with_the_protocols_area(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        for fold in bank.fold_classes:
            episodes = bank.episodes(fold)
            for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
                for i in (*support[0], query):
                    assert (bank.masks.layers(i).maps[0] == classes[0]).sum() >= 100


def test_what_a_bank_is_can_be_asked(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        assert (bank.dataset, bank.pool, bank.ways, bank.shots, bank.has_images) == ("pascal5i", "voc-val", 1, 3, True)
        assert bank.protocol == SMALL.but(pool="voc-val")
        assert bank.fold_classes == {i: tuple(range(5 * i + 1, 5 * i + 6)) for i in range(4)}
        assert (bank.class_names[1], bank.class_names[20]) == ("aeroplane", "tvmonitor")
        assert bank.masks.kinds == ("mask", "box", "point")


def test_fewer_shots_are_the_first_of_the_shots_drawn(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        assert bank.episodes(0, 1).support.tolist() == bank.episodes(0).support[:, :, :1].tolist()
        assert bank.episodes(0, 1).support.shape == (12, 1, 1)


def test_a_protocol_that_draws_each_number_of_shots_for_itself_is_not_cut_down(small_voc: Path, tmp_path: Path) -> None:
    own_lists = Protocol(name="own", pair_filter="none", class_draw="pair", query_draw="list", nested=False, episodes=9)
    generate(Pascal5i(small_voc), Request(own_lists, shots=(1, 3)), tmp_path / "own.h5")
    with open_bank(tmp_path / "own.h5") as bank:
        assert bank.draws == (1, 3)
        assert bank.episodes(0, 3).support.shape == (9, 1, 3)
        assert bank.episodes(0, 1).support.shape == (9, 1, 1)
        with pytest.raises(BankError, match="expected 1 or 3 shots, found 2"):
            bank.episodes(0, 2)


def test_mask_codes_tell_object_background_and_void(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        i = int(bank.episodes(0).support[0, 0, 0])
        class_id = int(bank.episodes(0).classes[0, 0])
        labels, codes = bank.masks.layers(i).maps[0], bank.masks.annotation("mask", i, class_id)
        assert (codes == np.where(labels == 255, 255, labels == class_id)).all()


def test_a_box_is_stored_for_every_support_and_covers_its_object(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        episodes = bank.episodes(1)
        for classes, support in zip(episodes.classes, episodes.support, strict=True):
            for i in support[0].tolist():
                box = bank.masks.annotation("box", i, int(classes[0]))
                assert (box[bank.masks.layers(i).maps[0] == classes[0]] == 1).all()


def test_an_annotation_that_is_not_there_names_those_that_are(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        with pytest.raises(BankError, match="mask, box, point, found 'scribble'"):
            bank.masks.annotation("scribble", 0, 1)
        with pytest.raises(BankError, match="is no support of class 99"):
            bank.masks.annotation("box", 0, 99)


def test_a_bank_can_be_pickled(bank_path: Path) -> None:
    with open_bank(bank_path) as bank:
        first = bank.image_bytes(0)
        copy = pickle.loads(pickle.dumps(bank))
        assert len(pickle.dumps(bank)) < 1000
        with copy:
            assert copy.image_bytes(0) == first


def _child(bank: Bank, place: int, queue: multiprocessing.Queue[tuple[int, str]]) -> None:
    queue.put((os.getpid(), hashlib.sha256(bank.image_bytes(place)).hexdigest()))


def test_a_forked_child_reads_through_a_handle_of_its_own(bank_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with open_bank(bank_path) as bank:
        expected = [bank.image_sha256(i) for i in range(6)]
        queue: multiprocessing.Queue[tuple[int, str]] = context.Queue()
        children = [context.Process(target=_child, args=(bank, i, queue)) for i in range(6)]
        for child in children:
            child.start()
        found = [queue.get(timeout=60) for _ in children]
        for child in children:
            child.join()
        assert {digest for _, digest in found} == set(expected)
        assert len({process for process, _ in found}) == 6
        assert bank.image_bytes(0)  # the parent's handle still works


def test_a_fold_that_does_not_exist_names_those_that_do(bank_path: Path) -> None:
    with open_bank(bank_path) as bank, pytest.raises(BankError, match="0, 1, 2, 3, found fold 4"):
        bank.episodes(4)


def test_too_many_shots_are_refused(bank_path: Path) -> None:
    with open_bank(bank_path) as bank, pytest.raises(BankError, match="expected 1 to 3 shots, found 5"):
        bank.episodes(0, 5)


def test_every_array_is_chunked_and_checksummed(bank_path: Path) -> None:
    arrays = []
    with h5py.File(bank_path) as file:
        file.visititems(lambda name, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        assert len(arrays) > 30
        assert all(array.fletcher32 and array.chunks for array in arrays)


def test_an_index_bank_has_no_images_but_everything_else(small_voc: Path, tmp_path: Path) -> None:
    request = Request(SMALL, shots=(2,))
    generate(Pascal5i(small_voc), request, tmp_path / "full.h5")
    generate(Pascal5i(small_voc), request, tmp_path / "index.h5", index=True)
    with open_bank(tmp_path / "full.h5") as full, open_bank(tmp_path / "index.h5") as index:
        assert index.fingerprint == full.fingerprint
        assert list(episode_lines(index, 2)) == list(episode_lines(full, 2))
        assert [index.image_sha256(i) for i in range(5)] == [full.image_sha256(i) for i in range(5)]
        assert not index.has_images
        for call in (index.image_bytes, index.masks.layers):
            with pytest.raises(BankError, match="fssbench attach"):
                call(0)
    assert (tmp_path / "index.h5").stat().st_size < (tmp_path / "full.h5").stat().st_size / 2


def test_masks_alone_are_enough_for_an_index(small_voc: Path, tmp_path: Path) -> None:
    request = Request(SMALL, shots=(2,))
    full = generate(Pascal5i(small_voc), request, tmp_path / "full.h5")
    for path in (small_voc / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        path.unlink()
    index = generate(Pascal5i(small_voc), request, tmp_path / "index.h5", index=True)
    assert index.fingerprint == full.fingerprint
    with open_bank(tmp_path / "index.h5") as bank:
        assert bank.image_sha256(0) == ""


def test_the_newest_bank_of_a_data_set_is_found_and_index_banks_are_not(small_voc: Path, tmp_path: Path) -> None:
    folder, data, request = tmp_path / "episodes", Pascal5i(small_voc), Request(SMALL, shots=(1,))
    for age, name in ((300, "old.h5"), (200, "new.h5")):
        generate(data, request, folder / name)
        os.utime(folder / name, (10**9 - age, 10**9 - age))
    generate(data, request, folder / "newest.index.h5", index=True)
    assert newest_bank(folder, "pascal5i").name == "new.h5"
    with pytest.raises(BankError, match="generate-episodes coco20i"):
        newest_bank(folder, "coco20i")


def test_short_classes_may_be_left_out_and_the_bank_says_so(make_voc: Callable[..., Path], tmp_path: Path) -> None:
    images = {f"2007_{100 * c + i:06d}": [c] for c in range(1, 21) for i in range(3 if c == 6 else 5)}
    request = Request(SMALL, shots=(3,), skip_short=True)
    generate(Pascal5i(make_voc(images)), request, tmp_path / "bank.h5")
    with open_bank(tmp_path / "bank.h5") as bank:
        assert bank.fold_classes[1] == (7, 8, 9, 10)
        assert "bus" in bank.note
        assert 6 not in bank.episodes(1).classes


def test_the_area_filter_of_a_published_list_needs_the_list(small_voc: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="published list"):
        generate(Pascal5i(small_voc), Request(HSNET), tmp_path / "bank.h5")


@pytest.mark.parametrize("name", sorted(name for name, p in PROTOCOLS.items() if p.pair_filter != "list"))
def test_every_other_named_protocol_can_be_carried_out(name: str, small_voc: Path, tmp_path: Path) -> None:
    protocol = PROTOCOLS[name].but(episodes=5, min_area=100)
    plan = generate(Pascal5i(small_voc), Request(protocol, shots=(1,), folds=(2,)), tmp_path / "bank.h5", index=True)
    assert len(plan.episodes[2, 1]) == 5 * len(protocol.seeds)
