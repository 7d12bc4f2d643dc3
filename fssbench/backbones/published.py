"""A weights file that its authors publish at an address: downloaded once, checked, and read without running code."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fssbench.errors import CheckpointError


def published_file(address: str, md5: str | None = None) -> Mapping[str, Tensor]:
    """The state dict at an address, kept in torch's hub folder. `md5` is of the whole file, where it is known.

    Raises `CheckpointError` where it cannot be downloaded, is another file, or holds more than tensors.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / address.rpartition("/")[2]
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path), progress=False)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights at {address} could not be downloaded ({error}). Put the file into {path.parent}, "
            "or say --weights random."
        ) from error
    if md5 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise CheckpointError(
                f"{path} is not the published file: expected MD5 {md5}, found {found}. Delete it to download it again."
            )
    try:
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it to download it again") from error
    return state
