"""Where things lie: this checkout, what tests import, the parity cases, and the real data where a machine has them."""

from __future__ import annotations

import os
from pathlib import Path

PLUGINS = Path(__file__).resolve().parent
ROOT = PLUGINS.parents[1]
CASES = ROOT / "tests" / "parity" / "cases"


def shared() -> Path | None:
    """The folder with real data and published lists, beside the repository or named by FSSBENCH_DATA."""
    named = [Path(os.environ["FSSBENCH_DATA"])] if "FSSBENCH_DATA" in os.environ else []
    places = [place for folder in [*named, ROOT.parent / "shared"] for place in (folder, folder.parent)]
    return next((place for place in places if (place / "data").is_dir() and (place / "splits").is_dir()), None)
