"""Where trainings lie. Torch-free."""

from __future__ import annotations

from pathlib import Path


def checkpoint_folder(out: Path, method: str, backbone: str, dataset: str, fold: int) -> Path:
    """Where a trained method's checkpoints lie: `best.safetensors` and `last.safetensors`."""
    return out / f"{method.replace(':', '-')}-{backbone.replace(':', '-')}-{dataset}-fold{fold}"
