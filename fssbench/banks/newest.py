"""Which bank is meant where none is named."""

from __future__ import annotations

from pathlib import Path

from fssbench.banks.bank import open_bank
from fssbench.errors import BankError


def newest_bank(folder: Path, dataset: str | None = None, ways: int | None = None) -> Path:
    """The bank that was written last, index banks left out; of one data set and number of ways, if asked for.

    Raises `BankError` if there is none.
    """
    unusable: list[str] = []
    paths = sorted(folder.glob("*.h5"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            with open_bank(path) as bank:
                if bank.has_images and dataset in (None, bank.dataset) and ways in (None, bank.ways):
                    return path
        except BankError as error:
            unusable.append(str(error))
    others = f" Not usable: {unusable[0]}" if unusable else ""
    wanted = f"a bank of {dataset}" if dataset else "a bank"
    raise BankError(
        f"expected {wanted}{f' with {ways} ways' if ways else ''} under {folder}, found none among {len(paths)} .h5 "
        f"files. Make one by `fssbench generate-episodes {dataset or 'pascal5i'}`, or name one by --bank.{others}"
    )
