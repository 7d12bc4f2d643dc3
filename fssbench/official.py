"""State dicts of the authors, renamed to our names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fssbench.errors import CheckpointError


def load_converted(method: nn.Module, state: Mapping[str, Tensor], unused: tuple[str, ...] = ()) -> None:
    """Load a state dict that was renamed to our names; refuse anything missing, left over or of another shape.

    `unused` names entries of the authors' files that are known to play no part (prefixes).
    """
    kept = {k: v for k, v in state.items() if not k.startswith(unused)} if unused else dict(state)
    ours = method.state_dict()
    missing = sorted(set(ours) - set(kept))
    foreign = sorted(set(kept) - set(ours))
    shapes = [
        f"{k} (expected {tuple(ours[k].shape)}, found {tuple(kept[k].shape)})"
        for k in sorted(set(ours) & set(kept))
        if ours[k].shape != kept[k].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:6])}{f' and {len(names) - 6} more' if len(names) > 6 else ''}"
        for title, names in (("missing", missing), ("not known", foreign), ("wrong shape", shapes))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the checkpoint does not fit {type(method).__name__}: {'; '.join(problems)}. "
            "Check method, backbone and config against those the checkpoint was trained with."
        )
    method.load_state_dict(dict(kept))


def strip_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel puts before every name."""
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)
