"""One optimiser step, as a stage of a recipe says: losses, gradients, clipping, rates, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fssbench.errors import MethodError
from fssbench.method import Method, Term
from fssbench.training.batches import Batch, Images, encoded
from fssbench.training.recipe import Stage, matches


class Losses(nn.Module):
    """A method's losses as a module's forward, which DistributedDataParallel can wrap."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Term]:
        """The terms, unweighted."""
        if isinstance(batch, Images):
            found: dict[str, Tensor | Term] = {"base": self.method.base_loss(batch.pixels, batch.labels)}
        else:
            found = dict(self.method.losses(encoded(self.method, batch)))
        return {name: _term(value, len(batch)) for name, value in found.items()}


def _term(value: Tensor | Term, episodes: int) -> Term:
    if isinstance(value, Term):
        return value
    return Term(value * episodes, value.new_tensor(float(episodes)).detach())


@dataclass(frozen=True)
class Report:
    """What one step did: its loss and the terms it is made of, as means over all processes; the first group's rate."""

    loss: float
    terms: dict[str, float]
    rate: float
    gradient: float  # L2 norm of all gradients before clipping

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


class Updater:
    """A method, its optimiser and its rates during one stage of `total` steps."""

    def __init__(self, method: Method, stage: Stage, total: int, *, losses: nn.Module | None = None) -> None:
        self.method, self.stage, self.total = method, stage, total
        prepare(method, stage)
        self.losses = losses or Losses(method)
        self.groups = parameter_groups(method, stage)
        self.optimiser = _optimiser(stage, self.groups)
        self.scaler: torch.amp.GradScaler | None = None  # for fp16
        self.before_update: Callable[[], None] = lambda: None  # called with gradients as the optimiser gets them

    def rates(self, step: int) -> list[float]:
        """Every group's rate at optimiser step `step`, from 0."""
        base = self.stage.optimiser.rate * self.stage.schedule.factor(step, self.total)
        return [base * group.rate for group in self.stage.groups]

    def step(self, parts: Sequence[Batch], step: int) -> Report:
        """Update by a batch, given in one or several parts of which each is a forward and a backward pass.

        Nothing is updated if loss or gradient is not finite; the report says so.
        """
        enter(self.method, self.stage)
        rates = self.rates(step)
        for number, group in enumerate(self.groups):
            self.optimiser.param_groups[number]["lr"] = rates[number]
            group["lr"] = rates[number]
        self.optimiser.zero_grad(set_to_none=True)
        whole = sum(len(part) for part in parts)
        totals: dict[str, float] = {}
        for part in parts:
            for name, value in self._backward(part, len(part) / whole).items():
                totals[name] = totals.get(name, 0.0) + value
        norm = self._clip()
        weights = self.method.loss_weights
        loss = sum(weights.get(name, 1.0) * value for name, value in totals.items())
        report = Report(loss, totals, rates[0], norm)
        self.before_update()
        if report.finite or self.scaler is not None:
            self._update()
        return report

    def _backward(self, part: Batch, share: float) -> dict[str, float]:
        """Gradients of one part, added to those there are; its terms, times its share of the batch."""
        terms: dict[str, Term] = self.losses(part)
        processes = dist.get_world_size() if dist.is_initialized() else 1
        counts = {name: _summed(term.count.detach().double()).clamp_min(1e-12) for name, term in terms.items()}
        weights = self.method.loss_weights
        means = {name: term.total / counts[name].to(term.total.dtype) for name, term in terms.items()}
        # DistributedDataParallel takes the mean of the processes' gradients; the sum is wanted, hence the factor.
        loss = torch.stack([weights.get(name, 1.0) * mean for name, mean in means.items()]).sum() * processes * share
        if loss.requires_grad:
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return {name: float(_summed(mean.detach().double())) * share for name, mean in means.items()}

    def _clip(self) -> float:
        """Clip each group and all together; the norm of all gradients before that."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimiser)
        norms = []
        for group, spec in zip(self.groups, self.stage.groups, strict=True):
            gradients = [p for p in group["params"] if p.grad is not None]
            limit = math.inf if spec.clip is None else spec.clip
            if gradients:
                norms.append(float(nn.utils.clip_grad_norm_(gradients, limit)))
        if self.stage.clip is not None:
            everything = [p for group in self.groups for p in group["params"] if p.grad is not None]
            nn.utils.clip_grad_norm_(everything, self.stage.clip)
        return math.sqrt(sum(norm * norm for norm in norms))

    def _update(self) -> None:
        if self.scaler is None:
            self.optimiser.step()
        else:
            self.scaler.step(self.optimiser)
            self.scaler.update()


def prepare(method: Method, stage: Stage) -> None:
    """Turn gradients off where the stage freezes, and on where a base stage trains what else is frozen."""
    for name, parameter in method.named_parameters():
        if stage.frozen_parameter(name):
            parameter.requires_grad_(False)
        elif stage.kind == "base":
            parameter.requires_grad_(stage.group_of(name, parameter.dim()) is not None)


def enter(method: Method, stage: Stage) -> None:
    """Put every module into the mode that the stage trains it in."""
    if stage.kind == "base":
        method.train_base()
    else:
        method.train()
    for name, module in method.named_modules():
        still = stage.running_statistics and isinstance(module, nn.modules.batchnorm._BatchNorm)
        if still or (name and matches(name, stage.evaluating)):
            module.eval()


def parameter_groups(method: Method, stage: Stage) -> list[dict[str, Any]]:
    """The optimiser's groups, in the recipe's order, with the parameters' names.

    Raises `MethodError` for a parameter that gets gradients and has no group.
    """
    groups: list[dict[str, Any]] = [
        {
            "params": [],
            "names": [],
            "lr": stage.optimiser.rate * group.rate,
            "weight_decay": stage.optimiser.weight_decay if group.weight_decay is None else group.weight_decay,
        }
        for group in stage.groups
    ]
    homeless = []
    for name, parameter in method.named_parameters():
        number = stage.group_of(name, parameter.dim())
        if number is not None:
            groups[number]["params"].append(parameter)
            groups[number]["names"].append(name)
        elif parameter.requires_grad and not matches(name, stage.idle):
            homeless.append(name)
    if homeless:
        raise MethodError(
            f"{method.info.title}, stage {stage.name!r}: expected every trained parameter in a group of the recipe, "
            f"found {homeless[0]} and {len(homeless) - 1} more in none. Add a group, or name them in `frozen`."
        )
    return groups


def _optimiser(stage: Stage, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    spec = stage.optimiser
    ours = [{k: v for k, v in group.items() if k != "names"} for group in groups]
    match spec.kind:
        case "SGD":
            return torch.optim.SGD(ours, spec.rate, momentum=spec.momentum, nesterov=spec.nesterov)
        case "Adam":
            return torch.optim.Adam(ours, spec.rate)
        case "AdamW":
            return torch.optim.AdamW(ours, spec.rate)


def _summed(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value
