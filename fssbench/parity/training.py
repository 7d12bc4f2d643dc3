"""Three steps of our recipe `paper` on a training case, in float64, against those of the authors' own loop.

In float64 every number is determined, where float32's rounding is amplified by batch statistics, ReLU and Adam. Rows
come in the order in which one looks for a fault: groups, rates, losses, gradients, updates, what must not change.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fssbench.errors import DataError, unknown_name
from fssbench.parity import recipe, train
from fssbench.parity.case import Case
from fssbench.parity.rows import Row
from fssbench.parity.setup import Setup
from fssbench.training.updates import Updater

EXACT = 1e-6  # relative, between two float64 codes that add in another order
Values = dict[str, NDArray[Any]]  # by the authors' names


@dataclass
class Steps:
    """What our steps did, by the authors' names."""

    rates: list[dict[str, float]]  # a step: of every tensor that is in a group
    hyper: dict[str, dict[str, Any]]  # of every tensor that is in a group
    losses: list[float]
    terms: list[list[float]]
    gradients: list[dict[str, float]]  # L2 norms after clipping
    before: Values
    after: Values


def compare_steps(case: Case) -> Iterator[Row]:
    """Run a case and compare, a row for every kind of number and step. Raises `DataError` for a case without runner."""
    yield from _Comparison(case, run_steps(case)).rows()


def find_setup(case: Case) -> Callable[[Case], Setup]:
    """The runner of a case: a module of `fssbench.parity.train`, named as its method, with `_base` for a base stage.

    Raises `DataError` for a method that has none.
    """
    method = "".join(c for c in str(case.meta.get("method")).lower() if c.isalnum())
    name = f"{method}_base" if str(case.meta.get("stage", "")).startswith("base") else method
    known = sorted(module.name for module in pkgutil.iter_modules(train.__path__))
    if name not in known:
        raise DataError(f"{case.file}: no runner for its training steps: " + unknown_name("method", name, known))
    found: Callable[[Case], Setup] = importlib.import_module(f"{train.__name__}.{name}").setup
    return found


def run_steps(case: Case) -> Steps:
    """The case's steps by `fssbench.training`'s own optimiser step."""
    setup = find_setup(case)(case)
    method = case.method(setup.cls, setup.config)
    for name, value in setup.buffers.items():
        method.get_buffer(name).copy_(value)
    theirs = names_of(case, setup)
    for module in method.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    with float64():
        method.double()
        updater = Updater(method, setup.stage, int(case.meta.get("total_iterations") or setup.stage.steps or 1))
        tensors = dict(method.named_parameters()) | dict(method.named_buffers())
        ours = {theirs[name]: value for name, value in tensors.items() if name in theirs}
        found = Steps([], _hyper(updater, theirs), [], [], [], _values(ours), {})

        def look() -> None:
            found.gradients.append({n: _norm(t.grad) for n, t in ours.items()})

        updater.before_update = look
        for step in range(int(case.meta["steps"])):
            setup.before_step(method, step)
            report = updater.step([_double(setup.batch(step))], step)
            rates = updater.rates(step)
            found.rates.append({
                theirs[name]: rates[number]
                for number, group in enumerate(updater.groups) for name in group["names"] if name in theirs
            })  # fmt: skip
            found.losses.append(report.loss)
            found.terms.append(list(report.terms.values()))
        found.after = _values(ours)
    return found


def names_of(case: Case, setup: Setup) -> dict[str, str]:
    """Our names to the authors', found by a converter's own doing: where it puts tensors that hold their number."""
    known, found = list(case.shapes), {}
    numbers = {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(case.shapes.items())}
    for name, value in case.method(setup.cls, setup.config, numbers).state_dict().items():
        first = float(value.flatten()[0])
        numbered = first.is_integer() and 0 <= first < len(known) and bool((value == first).all())
        if numbered and value.shape == case.shapes[known[int(first)]]:
            found[name] = known[int(first)]
    return {name: theirs for name, theirs in found.items() if name not in setup.buffers}


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Everything in float64: new tensors, and what code brings to float32. Kept constants are made anew."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    _forget()
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)
        _forget()


class _Double(TorchFunctionMode):
    """`.float()` and `.to(torch.float32)` give float64."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func is Tensor.float:
            return args[0].double()
        if func is Tensor.to:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            given = {k: torch.float64 if v is torch.float32 else v for k, v in given.items()}
        return func(*args, **given)


def _forget() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("methods."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _double(batch: Any) -> Any:
    return batch._each(lambda value: value.double() if value.is_floating_point() else value)


def _values(tensors: dict[str, Tensor]) -> Values:
    return {name: value.detach().double().clone().numpy() for name, value in tensors.items()}


def _norm(gradient: Tensor | None) -> float:
    return -1.0 if gradient is None else float(gradient.double().norm())


def _hyper(updater: Updater, theirs: dict[str, str]) -> dict[str, dict[str, Any]]:
    kind = type(updater.optimiser).__name__
    settings = zip(updater.groups, updater.optimiser.param_groups, strict=True)
    return {
        theirs[name]: {"optimizer": kind} | {k: v for k, v in torchs.items() if k not in ("params", "lr")}
        for group, torchs in settings for name in group["names"] if name in theirs
    }  # fmt: skip


class _Comparison:
    """Rows of one case."""

    def __init__(self, case: Case, found: Steps) -> None:
        self.case, self.found = case, found
        self.names = list(case.shapes)
        skipped = {*case.meta.get("noise_gradients", ())}
        self.exact = "grad_norm_float64" in case.expected or case.file.stem.endswith("-f64")
        if not self.exact:
            skipped |= {*case.meta.get("noise_tensors", ())}
        self.counted = [name for name in self.names if name not in skipped]

    def rows(self) -> Iterator[Row]:
        yield self._groups()
        yield from self._rates()
        yield from self._losses()
        yield from self._gradients()
        yield from self._updates()
        yield self._unchanged()

    def expected(self, name: str) -> NDArray[Any]:
        """An array of the authors' float64 run, else of their float32 run."""
        arrays = self.case.expected
        return arrays[f"{name}_float64"] if f"{name}_float64" in arrays else arrays[name]

    def _row(self, name: str, deviation: float, tolerance: float = 1.0) -> Row:
        known = deviation if np.isfinite(deviation) else None
        return Row(self.case.name, name, known, tolerance, known is not None and known <= tolerance)

    def _worst(self, title: str, deviations: dict[str, float], allowed: Callable[[str], float]) -> Row:
        """The tensor that exceeds what it is allowed most, as a share of that."""
        if not deviations:
            return self._row(title, 0.0)
        shares = {n: (d / allowed(n) if np.isfinite(d) else np.inf) for n, d in deviations.items()}
        worst = max(shares, key=lambda n: shares[n])
        passed = shares[worst] <= 1
        known = deviations[worst] if np.isfinite(deviations[worst]) else None
        return Row(self.case.name, f"{title} ({worst})", known, allowed(worst), passed)

    def _groups(self) -> Row:
        """How many tensors are in a group and should not be, or the other way, or have another hyper-parameter."""
        wrong = []
        for index, name in enumerate(self.names):
            number, ours = int(self.case.expected["group"][index]), self.found.hyper.get(name)
            if (number < 0) != (ours is None):
                wrong.append(name)
            elif ours is not None:
                theirs = self.case.meta["groups"][number]
                if any(_unlike(theirs[key], ours.get(key)) for key in theirs if key in _HYPER):
                    wrong.append(name)
        return self._row(f"groups ({wrong[0]})" if wrong else "groups", len(wrong), 0)

    def _rates(self) -> Iterator[Row]:
        for step, rates in enumerate(self.found.rates):
            theirs = self.case.expected["lr"][step]
            numbers = dict(zip(self.names, self.case.expected["group"].tolist(), strict=True))
            off = {n: abs(r / theirs[numbers[n]] - 1) for n, r in rates.items() if numbers[n] >= 0}
            yield self._worst(f"lr, step {step + 1}", off, lambda _: 1e-9)

    def _losses(self) -> Iterator[Row]:
        terms, losses = self.expected("loss_terms"), self.expected("loss")
        noise = EXACT if "loss_terms_float64" in self.case.expected or self.exact else 2e-5
        drift = 0.0 if self.exact else float(self.case.meta["float64_check"].get("loss_max_abs", 0.0))
        for step, ours in enumerate(self.found.terms):
            if len(ours) != terms.shape[1]:
                yield self._row(f"loss terms, step {step + 1}", np.nan)
                continue
            for number, value in enumerate(ours):
                theirs = float(terms[step, number])
                allowed = noise * max(1.0, abs(theirs)) + 2 * drift
                yield self._row(f"loss term {number + 1}, step {step + 1}", abs(value - theirs), allowed)
            allowed = EXACT * max(1.0, abs(float(losses[step])))
            yield self._row(f"loss, step {step + 1}", abs(self.found.losses[step] - float(losses[step])), allowed)

    def _gradients(self) -> Iterator[Row]:
        expected = self.expected("grad_norm")
        for step, ours in enumerate(self.found.gradients):
            theirs = dict(zip(self.names, expected[step].tolist(), strict=True))
            present = {n: float((theirs[n] < 0) != (ours.get(n, -1.0) < 0)) for n in self.names}
            yield self._row(f"which have gradients, step {step + 1}", sum(present.values()), 0)
            real = [theirs[n] for n in self.counted if theirs[n] > 0]
            floor = 1e-9 * float(np.median(real)) if real else 0.0
            off = {
                n: abs(ours.get(n, -1.0) - theirs[n]) / max(theirs[n], floor, 1e-300)
                for n in self.counted if theirs[n] >= 0
            }  # fmt: skip
            yield self._worst(f"gradient norms, step {step + 1}", off, partial(self._gradient_error, step))

    def _gradient_error(self, step: int, name: str) -> float:
        if self.exact:
            return self._own_error(name)
        errors = self.case.expected.get("error_gradient")
        if errors is not None:
            return max(1e-5, 2 * float(errors[step, self.names.index(name)]))
        known = self.case.meta["float64_check"].get("grad_norm_relative_by_step", [])
        return max(1e-5, 2 * float(known[step]["max"])) if step < len(known) else 1e-5

    def _own_error(self, name: str) -> float:
        """What float64 runs differ by among themselves, with room."""
        for array in ("error_float64_perturbed", "error_kernels"):
            if array in self.case.expected:
                value = float(self.case.expected[array][self.names.index(name)])
                return max(EXACT, 50 * value) if np.isfinite(value) else EXACT
        return EXACT

    def _update_error(self, name: str) -> float:
        if self.exact:
            return self._own_error(name)
        return max(1e-5, 1.5 * float(self.case.expected["error_float64"][self.names.index(name)]))

    def _sample_error(self, name: str) -> float:
        """A sample's share of float32's error can exceed the whole tensor's, which is what is known."""
        kernels = 0.0 if self.exact else float(self.case.expected["error_kernels"][self.names.index(name)])
        return max(self._update_error(name), 2 * kernels)

    def _updates(self) -> Iterator[Row]:
        changes = {n: self.found.after[n] - self.found.before[n] for n in self.found.after}
        norms = {n: float(np.linalg.norm(c)) for n, c in changes.items()}
        exact = dict(zip(self.names, self.expected("update_norm").tolist(), strict=True))
        missing = [n for n in self.names if n not in changes]
        yield self._row(f"tensors without counterpart ({missing[0]})" if missing else "tensors", len(missing), 0)
        counted = [n for n in self.counted if n in changes]
        size = {n: max(exact[n], 1e-300) for n in counted}
        off = {n: abs(norms[n] - exact[n]) / size[n] if exact[n] or norms[n] else 0.0 for n in counted}
        yield self._worst(
            "update norms", off, self._own_error if "update_norm_float64" in self.case.expected else self._update_error
        )
        for title, direction in (("update_probe", self._probe), ("update_along_value", self._value)):
            theirs = dict(zip(self.names, self.expected(title).tolist(), strict=True))
            off = {
                n: abs(float((changes[n] * direction(n)).sum()) - theirs[n]) / size[n]
                for n in counted if exact[n] and np.isfinite(theirs[n])
            }  # fmt: skip
            yield self._worst(title, off, self._update_error)
        yield self._samples(changes, counted, exact)

    def _probe(self, name: str) -> NDArray[Any]:
        shape = self.case.shapes[name]
        drawn = recipe.generator(self.case.meta["seed"], f"probe.{name}").standard_normal(shape)
        return np.asarray(drawn / np.sqrt((drawn * drawn).sum()))

    def _value(self, name: str) -> NDArray[Any]:
        value = self.found.before[name]
        length = float(np.linalg.norm(value))
        return value / length if length else value

    def _samples(self, changes: Values, counted: list[str], exact: dict[str, float]) -> Row:
        """Every n-th element of the update: of the float64 run where it is stored, else from the float32 values."""
        off = {}
        for name, every in self.case.meta["values"].items():
            if name not in counted or not exact[name]:
                continue
            ours = changes[name].ravel()[::every]
            stored = self.case.expected.get(f"update64_{name}")
            theirs = self.case.expected[f"after_{name}"] - self.found.before[name].ravel()[::every]
            reference = theirs.astype(np.float64) if stored is None else stored.astype(np.float64)
            spacing = (
                0.0
                if stored is not None
                else float(np.spacing(np.abs(self.found.before[name]).max().astype(np.float32)))
            )
            length = max(float(np.linalg.norm(reference)), 1e-300)
            off[name] = max(0.0, float(np.linalg.norm(ours - reference)) - spacing * np.sqrt(len(ours))) / length
        return self._worst("sampled values", off, self._sample_error)

    def _unchanged(self) -> Row:
        """How many tensors moved that never change in the authors' loop."""
        still = [n for n in self.case.meta.get("never_change", ()) if n in self.found.after]
        moved = [n for n in still if not np.array_equal(self.found.before[n], self.found.after[n])]
        return self._row(f"never change ({moved[0]})" if moved else "never change", len(moved), 0)


_HYPER = {"optimizer", "momentum", "dampening", "weight_decay", "nesterov", "betas", "eps", "amsgrad", "maximize"}


def _unlike(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, list | tuple):
        return list(theirs) != list(ours or ())
    return bool(theirs != ours)
