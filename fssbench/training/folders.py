"""Where trainings lie. Torch-free."""

from __future__ import annotations

from pathlib import Path

from fssbench.names import file_name


def checkpoint_folder(out: Path, method: str, backbone: str, dataset: str, fold: int) -> Path:
    """Where a trained method's checkpoints lie: `best.safetensors` and `last.safetensors`."""
    return out / f"{file_name(method)}-{file_name(backbone)}-{dataset}-fold{fold}"
