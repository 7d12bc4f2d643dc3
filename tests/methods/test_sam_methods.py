"""PerSAM and GF-SAM beyond their parity cases: what has no case, and what is missing."""

from __future__ import annotations

import builtins
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fssbench.backbones import published_file
from fssbench.conformance import small_subject
from fssbench.errors import CheckpointError, MethodError
from fssbench.method import OBJECT
from fssbench.scenes import render
from methods.gfsam import GFSAM, Maps, grow
from methods.persam import PerSAM
from methods.sam import Sam, fitted


def persam() -> PerSAM:
    method = small_subject(PerSAM).build()
    assert isinstance(method, PerSAM)
    return method


def gfsam() -> GFSAM:
    method = small_subject(GFSAM).build()
    assert isinstance(method, GFSAM)
    return method


@pytest.mark.parametrize("name", ["persam", "gfsam"])
def test_without_the_extra_one_message_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(module: str, *args: object, **kwargs: object) -> object:
        if module.startswith("segment_anything"):
            raise ImportError(module)
        return really(module, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MethodError, match=r"pip install fssbench\[foundation\]"):
        small_subject({"persam": PerSAM, "gfsam": GFSAM}[name]).build()


def test_weights_that_cannot_be_downloaded_or_are_another_file_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(CheckpointError, match=r"Put the file into .*checkpoints.*--weights random"):
        published_file("https://example.org/a.pth", "0" * 32)
    path = tmp_path / "checkpoints" / "a.pth"
    torch.save({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match=r"expected MD5 0{32}, found"):
        published_file("https://example.org/a.pth", "0" * 32)
    right = hashlib.md5(path.read_bytes()).hexdigest()
    assert torch.equal(published_file("https://example.org/a.pth", right)["w"], torch.ones(2))


def test_the_longest_side_is_fitted_and_the_other_rounded_to_the_nearest() -> None:
    assert fitted((375, 500), 1024) == (768, 1024)
    assert fitted((333, 500), 1024) == (682, 1024)  # 681.98
    assert fitted((100, 37), 64) == (64, 24)  # 23.68


def test_several_shots_of_persam_are_the_mean_of_their_targets() -> None:
    method = persam()
    pixels = render(method, 1, 1, 3)
    with torch.no_grad():
        together = pixels.built(method)
        one = together.shots(1)
        mean = together.support["target"].mean(2, keepdim=True)
        one.support["target"].copy_(mean)  # a view of `together`, whose first shot it now is
        expected = method.segment(one)
        fresh = method.segment(pixels.built(method))
    torch.testing.assert_close(fresh, expected)


def test_an_object_too_small_for_any_cell_selects_the_cell_that_holds_it() -> None:
    method = persam()
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[21, 38] = OBJECT
    assert not (method.mask_grid(labels) > 0).any()
    assert method.selected(labels).nonzero().tolist() == [[5, 9]]  # cells of 4 x 4 pixels
    assert not method.selected(torch.zeros_like(labels)).any()


def test_an_empty_second_mask_leaves_out_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    method = persam()
    boxes: list[Tensor | None] = []
    decode = Sam.decode

    def nothing(self: Sam, *args: Tensor, **options: Tensor) -> tuple[Tensor, Tensor]:
        boxes.append(options.get("box"))
        logits, qualities = decode(self, *args, **options)  # type: ignore[arg-type]
        return -logits.abs() - 1, qualities

    monkeypatch.setattr(Sam, "decode", nothing)
    with torch.no_grad():
        logits = method.segment(render(method).built(method))
    assert torch.isfinite(logits).all()
    assert boxes == [None, None, None]


def test_a_query_without_a_similar_cell_gets_an_empty_mask() -> None:
    method = gfsam()
    with torch.no_grad():
        episodes = render(method).built(method)
        episodes.support["masks"].zero_()
        found = method.decide(method.segment(episodes))
    assert not found.any()


def test_points_are_the_strongest_cells_as_many_as_the_maps_sum_ordered_by_column() -> None:
    method = gfsam()
    filtered = torch.zeros(8, 8)
    filtered[2, 5], filtered[6, 1], filtered[0, 5], filtered[7, 7] = 1.0, 0.9, 0.8, 0.4  # sum 3.1
    assert method.cells(filtered).tolist() == [[1, 6], [5, 0], [5, 2]]
    assert method.cells(torch.zeros(8, 8)).tolist() == []
    assert method.cells(0.2 * (filtered == 1)).tolist() == [[5, 2]]  # a sum below 1 still gives one
    assert method.prompts(torch.tensor([[1, 6]])).tolist() == [[8, 48]]  # 64 / 8 a cell, top left corner


def test_a_mask_grows_its_component_only_by_what_others_have_not_taken() -> None:
    """Region: the left half. The second mask repeats the first and adds cells outside: it is refused."""
    mean = torch.zeros(4, 4)
    mean[:, :2] = 1.0
    maps = Maps(mean, mean, torch.full((4, 4), 0.1))
    masks = torch.zeros(3, 4, 4)
    masks[0, :, :2] = 1
    masks[1, :, 1:3] = 1
    masks[2, 0, 0] = 1
    grown, score = grow(masks, [torch.tensor([0, 1]), torch.tensor([2])], maps)
    assert grown.tolist() == [True, False, True]
    assert score.tolist() == [-4.0, -4.0, 1.0]  # of the mask visited last: four new cells, all outside
