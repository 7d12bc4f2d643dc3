"""What a record's rows must fulfil: whole rows, possible counts, and the same ground truth wherever a query returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fssbench.audit.run import Problem
from fssbench.errors import FssbenchError
from fssbench.names import SEPARATOR
from fssbench.records import COLUMNS, COUNTS, Run, unpacked
from fssbench.scoring.metrics import BACKGROUND_CLASS

NUMBERS = [name for name in COLUMNS if name not in ("query", "supports")]
EPISODE = ["fold", "run", "episode"]
LARGEST = 2**53  # beyond it a count is no pixel count, and no longer exact in other people's readers


def read_rows(path: Path) -> tuple[pd.DataFrame | None, list[Problem]]:
    """The rows of an `episodes.csv.gz` as whole numbers and ids, or None and what keeps them from being read."""
    try:
        frame = pd.read_csv(unpacked(path), dtype=str, keep_default_na=False)
    except (FssbenchError, OSError, ValueError) as error:
        return None, [("file", str(error))]
    if list(frame.columns) != COLUMNS:
        return None, [("header", f"expected {','.join(COLUMNS)}, found {','.join(map(str, frame.columns))}")]
    problems: list[Problem] = []
    for name in NUMBERS:
        whole = frame[name].str.fullmatch(r"\d{1,16}")
        if not whole.all():
            first = int((~whole).to_numpy().argmax())
            more = _more(int((~whole).sum()))
            problems.append(
                (name, f"expected a whole number, found {frame[name].iloc[first]!r} in line {first + 2}{more}")
            )
    if problems:
        return None, problems
    return frame.astype(dict.fromkeys(NUMBERS, "int64")), []


def check_rows(run: Run, rows: pd.DataFrame) -> Iterator[Problem]:
    """Everything that can be wrong with the rows of `run`, without a look at the bank itself."""
    yield from _complete(run, rows)
    yield from _ways(run, rows)
    yield from _images(run, rows)
    yield from _counts(rows)


def place(rows: pd.DataFrame, wrong: pd.Series) -> str:
    """Where the first of the wrong rows stands, and how many more there are."""
    row = rows[wrong.to_numpy()].iloc[0]
    more = _more(int(wrong.sum()))
    return f"fold {row['fold']}, run {row['run']}, episode {row['episode']}, way {row['way']}{more}"


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _complete(run: Run, rows: pd.DataFrame) -> Iterator[Problem]:
    """As many episodes as the bank has, each once, numbered from 0 in their fold."""
    found = sorted(int(fold) for fold in rows["fold"].unique())
    if found != sorted(run.folds):
        yield "fold", f"expected rows of the folds {sorted(run.folds)}, found {found}"
    twice = rows.duplicated([*EPISODE, "way"])
    if twice.any():
        yield "episode", f"expected every episode and way once, found it again at {place(rows, twice)}"
    for fold in found:
        episodes = rows[rows["fold"] == fold].drop_duplicates(EPISODE)
        expected = run.bank.episodes.get(fold)
        if expected is not None and len(episodes) != expected:
            yield "episode", f"expected {expected} episodes in fold {fold}, as the bank has, found {len(episodes)}"
        elif not (_counted(episodes) or all(_counted(one) for _, one in episodes.groupby("run"))):
            yield "episode", f"expected numbers 0 to {len(episodes) - 1} in fold {fold}, found others"


def _counted(episodes: pd.DataFrame) -> bool:
    return set(episodes["episode"]) == set(range(len(episodes)))


def _ways(run: Run, rows: pd.DataFrame) -> Iterator[Problem]:
    """Rows of ways 1 to N, of N different classes of the fold; with several ways one more row for the background."""
    background = rows["way"] == 0
    misnamed = background != (rows["class_id"] == BACKGROUND_CLASS)
    if misnamed.any():
        yield "class_id", f"expected class 0 for way 0 and only there, found otherwise at {place(rows, misnamed)}"
    if background.any() and background.sum() != len(rows.drop_duplicates(EPISODE)):
        yield "way", "expected a row of the background in every episode or in none, found it in some"
    sizes = (~background).groupby([rows[name] for name in EPISODE]).transform("sum") != run.way
    if sizes.any():
        yield "way", f"expected {run.way} ways an episode, found another number at {place(rows, sizes)}"
    beyond = rows["way"] > run.way
    if beyond.any():
        yield "way", f"expected ways 1 to {run.way}, found {place(rows, beyond)}"
    again = rows.duplicated([*EPISODE, "class_id"])
    if again.any():
        yield "class_id", f"expected different classes in an episode, found one twice at {place(rows, again)}"
    for fold, classes in run.bank.folds.items():
        foreign = (rows["fold"] == fold) & ~background & ~rows["class_id"].isin(classes)
        if foreign.any():
            found = int(rows.loc[foreign, "class_id"].iloc[0])
            yield "class_id", f"expected classes of fold {fold}, {classes}, found {found} at {place(rows, foreign)}"


def _images(run: Run, rows: pd.DataFrame) -> Iterator[Problem]:
    """One query an episode, K supports a way, and never the query among them."""
    several = rows.groupby(EPISODE)["query"].transform("nunique") != 1
    if several.any():
        yield "query", f"expected one query an episode, found several at {place(rows, several)}"
    if (rows["query"] == "").any():
        yield "query", f"expected an image id, found nothing at {place(rows, rows['query'] == '')}"
    ways = rows[rows["way"] > 0]
    supports = ways["supports"].str.split(SEPARATOR, regex=False)
    count = supports.map(len) != run.shot
    if count.any():
        found = len(supports[count].iloc[0])
        yield "supports", f"expected {run.shot} image ids, found {found} at {place(ways, count)}"
    leak = [query in ids for query, ids in zip(ways["query"], supports, strict=True)]
    if any(leak):
        yield "supports", f"expected other images than the query, found the query at {place(ways, pd.Series(leak))}"
    repeat = supports.map(lambda ids: len(set(ids)) < len(ids)).astype(bool)
    if run.bank.protocol.get("support_draw") == "distinct" and repeat.any():
        yield "supports", f"expected different images, found one twice at {place(ways, repeat)}"


def _counts(rows: pd.DataFrame) -> Iterator[Problem]:
    """Counts that can be: the pixels, the object's pixels and the ignored pixels of a query never change."""
    for name in COUNTS:
        huge = rows[name] > LARGEST
        if huge.any():
            yield name, f"expected a number of pixels, found {int(rows.loc[huge, name].iloc[0])} at {place(rows, huge)}"
            return
    total, ignored = rows[COUNTS].sum(axis=1), rows["ignored_fg"] + rows["ignored_bg"]
    if (total == 0).any():
        yield "the six counts", f"expected the pixels of an image, found none at {place(rows, total == 0)}"
    objects = rows[rows["way"] > 0]
    yield from _unchanging("the six counts", rows, total, ["query"])
    yield from _unchanging("ignored_fg + ignored_bg", rows, ignored, ["query"])
    yield from _unchanging("tp + fn", objects, objects["tp"] + objects["fn"], ["query", "class_id"])
    yield from _shared_out(rows, total - ignored)


def _unchanging(name: str, rows: pd.DataFrame, count: pd.Series, key: list[str]) -> Iterator[Problem]:
    """One and the same number in all rows of a query (and class): it belongs to the ground truth."""
    usual = count.groupby([rows[column] for column in key]).transform("first")
    other = count != usual
    if other.any():
        expected, found, query = int(usual[other].iloc[0]), int(count[other].iloc[0]), rows.loc[other, "query"].iloc[0]
        where = f"at {place(rows, other)}"
        yield name, f"expected {expected} px for query {query!r} as in its other rows, found {found} {where}"


def _shared_out(rows: pd.DataFrame, valid: pd.Series) -> Iterator[Problem]:
    """A pixel has one label and one prediction: over an episode's ways they add up to its valid pixels."""
    episode = [rows[name] for name in EPISODE]
    with_background = (rows["way"] == 0).groupby(episode).transform("any")
    for name, count in (("tp + fn", rows["tp"] + rows["fn"]), ("tp + fp", rows["tp"] + rows["fp"])):
        total = count.groupby(episode).transform("sum")
        wrong = (total > valid) | (with_background & (total != valid))
        if wrong.any():
            expected, found = int(valid[wrong].iloc[0]), int(total[wrong].iloc[0])
            yield name, f"expected the ways to share {expected} valid px, found {found} at {place(rows, wrong)}"
