"""Two runs of one benchmark side by side: `python benchmarks/compare.py BEFORE AFTER`.

Each file is what a benchmark wrote by `--out`. Every number that both hold is printed with the ratio after / before;
what only one of them holds is named, so that nothing is lost without a word. Rows of a list are told apart by the
texts in them (a method's name, a command), and where those repeat by their order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate


def figures(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """(name, number) of every number in a JSON value, in its order."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from figures(each, f"{name} {key}".lstrip())
    elif isinstance(value, list):
        seen: Counter[str] = Counter()
        for each in value:
            texts = [text for text in each.values() if isinstance(text, str)] if isinstance(each, dict) else []
            label = " ".join(filter(None, (name, *texts)))
            seen[label] += 1
            yield from figures(each, label if texts and seen[label] == 1 else f"{label} #{seen[label]}".lstrip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def read(file: Path) -> dict[str, float]:
    """A benchmark's figures by name; a file that is none ends the command with one line."""
    try:
        return dict(figures(json.loads(file.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as problem:
        raise SystemExit(f"{file}: expected the JSON that a benchmark writes by --out: {problem}") from None


def main() -> int:
    """Print the table; status 1 if the files have no figure in common."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    asked = parser.parse_args()
    before, after = read(asked.before), read(asked.after)
    rows = [
        (name, f"{old:.6g}", f"{after[name]:.6g}", f"{after[name] / old:.2f}" if old else "")
        for name, old in before.items()
        if name in after
    ]
    print(tabulate(rows, ("figure", "before", "after", "ratio"), tablefmt="github", disable_numparse=True))
    for file, own, other in ((asked.before, before, after), (asked.after, after, before)):
        if alone := [name for name in own if name not in other]:
            print(f"\nonly in {file}: {', '.join(alone)}")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
