"""Every method runs on a GPU that is not there: a tensor that is left on the processor is an error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fssbench.conformance import small_subject
from fssbench.engine.counting import Resolution, labels_at
from fssbench.method import Method, SupportBatch
from fssbench.registry import BUILT_IN, find_method
from fssbench.scenes import Pixels, render
from methods import positions

FOUND = 3  # positions that a mask is said to choose
WAITING = {"persam"}  # SAM's package marks its prompts by boolean indices; without a box there are fewer of them
BY_THE_HOST = {"gfsam", "matcher"}  # SciPy finds components and assignments, in values that nobody has here


class Answers(TorchDispatchMode):
    """Stands in for operations that need values, which pretended tensors do not have, and writes them down.

    A GPU would be waited for in each of them. Truths are `answer`, numbers 1 or 0.
    """

    answer = True

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in ("_local_scalar_dense", "item", "is_nonzero"):
            self.waits.append(name)
            dtype = torch.bool if name == "is_nonzero" else args[0].dtype
            kind = bool if dtype == torch.bool else float if dtype.is_floating_point else int
            return kind(self.answer)
        if name == "nonzero":
            self.waits.append(name)
            return args[0].new_zeros(FOUND, args[0].dim(), dtype=torch.int64)
        if name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.waits.append(name)
            args = (args[0], [new for index in args[1] for new in _places(index)])
        return func(*args, **(kwargs or {}))


def _places(index: Tensor | None) -> list[Tensor | None]:
    if index is None or index.dtype != torch.bool:
        return [index]
    return [torch.zeros(FOUND, dtype=torch.int64, device=index.device) for _ in range(index.dim())]


def _moved(module: nn.Module) -> None:
    """`module.to("cuda")`, which wants a driver for some kinds of tensors."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(parameter.detach().to("cuda"), parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = buffer.to("cuda")


def _zeros(pretended: Tensor) -> NDArray[Any]:
    assert pretended.device.type == "cpu"
    return np.zeros(tuple(pretended.shape), str(pretended.dtype).removeprefix("torch."))


def _encode(method: Method, drawn: Pixels) -> None:
    """Queries and supports, as the engine has them encoded."""
    method.encode(drawn.query)
    pixels, labels = drawn.support.flatten(0, 2), drawn.support_labels.flatten(0, 2)
    features = method.encode(pixels) if method.encodes_support else {}
    method.encode_support(SupportBatch(features, labels, lambda: pixels))


def _are_there(*values: Tensor) -> None:
    assert [value.device.type for value in values] == ["cuda"] * len(values)


@pytest.mark.filterwarnings("ignore::fssbench.errors.EmptySupportWarning")
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_method_leaves_no_tensor_on_the_processor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, pretended = small_subject(find_method(name)), FakeTensorMode()
    monkeypatch.setattr(Tensor, "numpy", _zeros)  # SAM has its images resized by Pillow
    with pretended, Answers():
        method = subject.build()
        _moved(method)
    drawn = render(method, 2, subject.ways, 2)
    with pretended, Answers() as answers, torch.inference_mode():
        pixels = drawn.mapped(lambda x: pretended.from_tensor(x).to("cuda"))
        _encode(method, pixels)
        assert answers.waits == []
        episodes = pixels.built(method)
        _are_there(*episodes.query.values(), *episodes.support.values())
        for answers.answer in () if name in BY_THE_HOST else (True, False) if name in WAITING else (True,):
            answers.waits.clear()
            logits = method.segment(episodes)
            label = labels_at(method, logits, subject.ways, (50, 60), method.query_input, Resolution())
            _are_there(logits, label)
            assert bool(answers.waits) == (name in WAITING)
    if method.info.trainable:
        with pretended, Answers():
            _are_there(method.train().loss(pixels.built(method)))


@pytest.mark.parametrize("name", ["bam", "hdmnet", "hsnet", "nearest", "pfenet", "ssp"])
def test_what_is_compared_everywhere_gives_what_is_compared_inside_the_mask(name: str, monkeypatch: Any) -> None:
    """A GPU compares all positions, a processor those inside: the same logits."""
    subject = small_subject(find_method(name))
    method = subject.build()
    with torch.inference_mode():
        episodes = render(method, 2, subject.ways, 2).built(method)
        inside = method.segment(episodes)
        monkeypatch.setattr(positions, "KNOWN_ON", frozenset())
        torch.testing.assert_close(method.segment(episodes), inside, atol=1e-5, rtol=1e-5)


@pytest.fixture(autouse=True)
def _nothing_pretended_is_kept() -> Iterator[None]:
    """What methods keep between calls holds no pretended tensor, before and after."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for name, module in list(sys.modules.items()):
        for value in vars(module).values() if name.startswith("methods.") else ():
            getattr(value, "cache_clear", lambda: None)()
