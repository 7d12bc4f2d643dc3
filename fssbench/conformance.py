"""What every method has to fulfil, whoever wrote it.

Each check takes a `Subject` and returns nothing, or raises `MethodError` saying what was expected and what was found.
`fssbench conformance NAME` runs them all; from Python:

    from fssbench.conformance import CHECKS, small_subject
    for check in CHECKS.values():
        check(small_subject(MyMethod))
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fssbench.engine.build import drawn_by_chance
from fssbench.errors import CheckpointError, EmptySupportWarning, MethodError
from fssbench.method import Method, MethodConfig
from fssbench.scenes import Pixels, render
from fssbench.settings import parse_settings

TOLERANCE = 1e-4  # float32, relative to the largest value where that is above 1


@dataclass(frozen=True)
class Subject:
    """A method and a configuration to check it in: a small backbone and a small input make that fast.

    `steps` and `rate` are of the Adam that has to overfit one episode.
    """

    cls: type[Method]
    config: MethodConfig
    steps: int = 300
    rate: float = 1e-3

    def build(self, seed: int = 0) -> Method:
        """The method in eval mode, random weights from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.cls(self.config).eval()

    @property
    def ways(self) -> int:
        """The most ways that are tried."""
        return min(self.cls.info.max_ways or 2, 2)


def small_subject(cls: type[Method], settings: Iterable[str] = ()) -> Subject:
    """A method on the smallest backbone and a small input, as its `checked_with` and `settings` change them."""
    fields = cls.Config.model_fields
    small = [text for text in ("backbone=efficientnet_lite0", "size=64,96") if text.partition("=")[0] in fields]
    return Subject(cls, parse_settings(cls.Config, [*small, *cls.checked_with, *settings]))


def check_shapes(subject: Subject) -> None:
    """Logits are B x (1 + N) x h x w, or B x S x (1 + N) x h x w with `decide`, for any batch, ways and shots."""
    method = subject.build()
    for b, n, k in ((1, 1, 1), (2, 1, 3), (2, subject.ways, 2)):
        pixels = render(method, b, n, k)
        logits = _segmented(method, pixels)
        if logits.dim() not in (4, 5) or len(logits) != b or logits.shape[-3] != 1 + n:
            raise MethodError(
                f"expected logits of {b} x {1 + n} x h x w for B, N, K = {b}, {n}, {k}; found {tuple(logits.shape)}"
            )
        _expect_finite(logits, f"B, N, K = {b}, {n}, {k}")
        found = method.decide(_upsampled(method, logits, pixels.query))
        if found.shape != pixels.query_labels.shape or found.min() < 0 or found.max() > n:
            raise MethodError(
                f"expected `decide` to give {tuple(pixels.query_labels.shape)} labels from 0 to {n}; "
                f"found {tuple(found.shape)} from {int(found.min())} to {int(found.max())}"
            )


def check_gradients(subject: Subject) -> None:
    """The loss is a finite scalar, and its gradient reaches every parameter that asks for one."""
    method = subject.build()
    if not method.info.trainable:
        return
    method.train()
    reached: set[str] = set()
    missed: list[str] = []
    for seed in range(3):  # dropout and dead units may hide a parameter once
        method.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loss = method.loss(render(method, 2, 1, 2, seed).built(method))
        if loss.dim() or not torch.isfinite(loss):
            raise MethodError(f"expected the loss to be one finite number, found {loss}")
        loss.backward()
        reached |= {name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())}
        missed = [name for name, p in method.named_parameters() if p.requires_grad and name not in reached]
        if not missed:
            break
    if missed:
        raise MethodError(
            f"expected gradients for every parameter that requires one; none reached {len(missed)}: "
            f"{', '.join(missed[:6])}. Use them in `loss`, freeze them by requires_grad_(False), or do not build them."
        )


def check_overfits(subject: Subject) -> None:
    """Adam on one episode brings its query's IoU above 0.9 in eval mode."""
    method = subject.build()
    if not method.info.trainable:
        return
    pixels = render(method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        iou = _overfitted(method, pixels, subject)
    if iou <= 0.9:
        raise MethodError(f"expected a query IoU above 0.9 after {subject.steps} steps on one episode, found {iou:.3f}")


def check_eval_is_deterministic(subject: Subject) -> None:
    """In eval mode logits repeat exactly, and an episode's do not depend on what else is in its batch."""
    method = subject.build()
    pixels = render(method, 2, 1, 2)
    together = _segmented(method, pixels)
    if not torch.equal(together, _segmented(method, pixels)):
        raise MethodError("expected eval mode to repeat its logits exactly; two runs on the same episodes differ")
    for b in range(2):
        _expect_close(_segmented(method, pixels.only(b))[0], together[b], "logits of an episode alone and in a batch")


def check_cache(subject: Subject) -> None:
    """Features and supports made one by one, as the engine caches them, give the logits of a whole batch."""
    method = subject.build()
    pixels = render(method, 2, subject.ways, 2)
    with torch.no_grad():
        cached = method.segment(pixels.built(method, cached=True))
    _expect_close(cached, _segmented(method, pixels), "logits from features made one by one and in a batch")


def check_shared_features(subject: Subject) -> None:
    """`segment` takes one query's features expanded over a batch, as the engine shares them, and changes no input."""
    method = subject.build()
    drawn = render(method, 2, 1, 2)
    pixels = replace(drawn, query=drawn.query[:1].expand_as(drawn.query).contiguous())
    with torch.no_grad():
        plain = pixels.built(method)
        shared = replace(plain, query={name: value[:1].expand_as(value) for name, value in plain.query.items()})
        inputs = [*shared.query.values(), *shared.support.values()]
        before = [value.clone() for value in inputs]
        logits = method.segment(shared)
        if not all(torch.equal(value, kept) for value, kept in zip(inputs, before, strict=True)):
            raise MethodError("expected `segment` to leave its features alone: they serve other episodes too")
        _expect_close(logits, method.segment(plain), "logits from shared and from copied features of a query")


def check_empty_support(subject: Subject) -> None:
    """A support without a pixel of its object gives finite logits and a warning."""
    method = subject.build()
    pixels = render(method, 1, 1, 2)
    pixels.support_labels.zero_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logits = _segmented(method, pixels)
    _expect_finite(logits, "a support without object pixels")
    if not any(issubclass(warning.category, EmptySupportWarning) for warning in caught):
        raise MethodError("expected an EmptySupportWarning for a support without object pixels, found none")


def check_state_dict(subject: Subject) -> None:
    """A state dict carries the whole method: loaded into another instance, it gives the same logits."""
    method, other = subject.build(), subject.build(seed=1)
    pixels = render(method, 1, 1, 2)
    other.load_state_dict(method.state_dict())
    if not torch.equal(_segmented(method, pixels), _segmented(other, pixels)):
        raise MethodError("expected equal logits after load_state_dict(state_dict()); something is not in the dict")


def check_encode_is_pure(subject: Subject) -> None:
    """`encode` looks at one image at a time and keeps no trace of earlier calls."""
    method = subject.build()
    pixels = render(method, 3)
    with torch.no_grad():
        before = method.encode(pixels.query)
        method.segment(pixels.built(method))
        for b in range(3):
            for name, value in method.encode(pixels.query[b : b + 1]).items():
                _expect_close(value[0], before[name][b], f"feature {name!r} of an image alone and in a batch")


def check_bf16(subject: Subject) -> None:
    """Under bfloat16 autocast logits are finite."""
    method = subject.build()
    with torch.autocast("cpu", torch.bfloat16):
        logits = _segmented(method, render(method, 1, subject.ways, 2))
    _expect_finite(logits, "bfloat16")


def check_untrained(subject: Subject) -> None:
    """A method that says it works untrained has nothing besides its backbone that is drawn at random."""
    if not subject.cls.info.untrained:
        return
    by_chance = drawn_by_chance(subject.build(), subject.build(seed=1))
    if by_chance:
        raise MethodError(
            "expected `untrained=False` in `info`, or nothing to learn but the backbone; drawn at random: "
            f"{', '.join(by_chance[:6])}. Tables would call its masks untrained, and they are noise."
        )


def check_foreign_checkpoint(subject: Subject) -> None:
    """`load_official` refuses a state dict that is not its own."""
    method = subject.build()
    try:
        method.load_official({"nobody.knows.weight": torch.zeros(1)})
    except CheckpointError:
        return
    raise MethodError("expected load_official to raise CheckpointError for foreign keys; it took them silently")


CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_shapes,
        check_gradients,
        check_overfits,
        check_eval_is_deterministic,
        check_cache,
        check_shared_features,
        check_empty_support,
        check_state_dict,
        check_encode_is_pure,
        check_bf16,
        check_untrained,
        check_foreign_checkpoint,
    )
}


def failure(check: Callable[[Subject], None], subject: Subject) -> str | None:
    """What a check found wrong, also where the method itself raises; None if it passes."""
    try:
        check(subject)
    except MethodError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a method may fail in any way, which is what a check is for
        return f"the method raised {type(error).__name__}: {error}"
    return None


def _segmented(method: Method, pixels: Pixels) -> Tensor:
    with torch.no_grad():
        return method.segment(pixels.built(method))


def _upsampled(method: Method, logits: Tensor, query: Tensor) -> Tensor:
    size = (query.shape[2], query.shape[3])
    flat = logits.float().flatten(0, -4)
    corners = method.align_corners
    full: Tensor = F.interpolate(flat, size, mode="bilinear", align_corners=corners).unflatten(0, logits.shape[:-3])
    return full


def _overfitted(method: Method, pixels: Pixels, subject: Subject) -> float:
    """The best query IoU in eval mode, looked at every 10 steps, until it is above 0.9."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    twice = pixels.mapped(
        lambda tensor: tensor.repeat_interleave(2, 0)
    )  # BatchNorm needs more than one value a channel
    optimizer, best = torch.optim.Adam(trained, lr=subject.rate), 0.0
    for step in range(1, subject.steps + 1):
        method.train()
        optimizer.zero_grad()
        method.loss(twice.built(method)).backward()
        optimizer.step()
        if step % 10 == 0:
            method.eval()
            found = method.decide(_upsampled(method, _segmented(method, pixels), pixels.query)) == 1
            truth = pixels.query_labels == 1
            best = max(best, float((found & truth).sum() / (found | truth).sum()))
            if best > 0.9:
                break
    return best


def _expect_finite(logits: Tensor, when: str) -> None:
    if not torch.isfinite(logits).all():
        raise MethodError(f"expected finite logits, found NaN or infinity with {when}")


def _expect_close(found: Tensor, expected: Tensor, what: str) -> None:
    scale = max(1.0, float(expected.abs().max()))
    deviation = float((found - expected).abs().max())
    if not deviation <= TOLERANCE * scale:
        raise MethodError(f"expected equal {what}; they differ by {deviation:.2g} where values go up to {scale:.2g}")
