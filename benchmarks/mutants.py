"""Plant faults in the code and see whether the tests notice.

    python benchmarks/mutants.py [--number 150] [--rooms ROOM ...] [--coverage FOLDER] [--out FILE] [--again]

The suite runs once under coverage to learn which tests execute which line, and how long each takes. Then each mutant,
a single changed operator, number, condition or argument, is written into a copy of the tree and judged by the tests
that execute its line (its file, where the line runs on import): those of its room first, then the fastest, until one
fails or `--most` seconds of tests have passed. A test that fails without the mutant too judges no more. A mutant that
none of them notices *survives*: a missing test, or a change that means nothing; how many of the line's tests it was
shown is told with it. One on which a test needs ten times its usual time, and 30 s, is judged again with three times
that, and is a *timeout* then: an endless loop, most often. Mutants are drawn with a seed, equally from rooms; a change
of the code elsewhere leaves the draw as it is. What `--out` holds already is not judged again, but by `--again` what
survived. `--tests PATH ...` runs only those tests under coverage, and adds what they say to what `--coverage` holds.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import accumulate
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "banks": ("fssbench/banks/*.py", "fssbench/protocol*.py"),
    "engine": ("fssbench/engine/*.py", "fssbench/method.py", "fssbench/score.py"),
    "scoring": ("fssbench/scoring/*.py",),
    "reports": ("fssbench/reports/**/*.py", "fssbench/audit/*.py", "fssbench/records.py"),
    "training": ("fssbench/training/*.py", "fssbench/regime.py", "fssbench/checkpoints.py"),
}
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip


USUAL = "not slow and not browser"  # tests


@dataclass(frozen=True)
class Mutant:
    """One changed place."""

    room: str
    file: str
    line: int
    before: str
    after: str
    verdict: str = ""  # "killed", "survived", "timeout", "not covered"
    killer: str = ""
    tests: str = ""  # how many of the line's tests it was shown

    @property
    def place(self) -> tuple[str, int, str, str]:
        """What makes two mutants the same."""
        return self.file, self.line, self.before, self.after


def mutants_of(file: Path, room: str) -> Iterator[Mutant]:
    """Every mutant of a file; each is one node of its syntax tree changed. Docstrings and annotations are left."""
    text = file.read_text()
    tree = ast.parse(text)
    lines = text.splitlines()
    skipped = {id(node) for each in ast.walk(tree) for hint in _hints(each) for node in ast.walk(hint)}
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.expr | ast.stmt) or node.lineno != node.end_lineno:
            continue
        for new in _changed(node):
            line = lines[node.lineno - 1].encode()
            start, end = node.col_offset, node.end_col_offset or 0
            after = (line[:start] + ast.unparse(new).encode() + line[end:]).decode()
            if after != line.decode():
                name = file.relative_to(ROOT).as_posix()
                yield Mutant(room, name, node.lineno, line.decode().strip(), after)


def _hints(node: ast.AST) -> list[ast.AST]:
    """Annotations, decorators, and messages of errors: changes there say nothing about behaviour."""
    if isinstance(node, ast.FunctionDef):
        return [*node.decorator_list, *([node.returns] if node.returns else [])]
    if isinstance(node, ast.ClassDef):
        return list(node.decorator_list)
    if isinstance(node, ast.arg | ast.AnnAssign):
        return [node.annotation] if node.annotation else []
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.ImportFrom | ast.Import):
        return [node]
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip, for what cannot be
        return [node.value]
    return []


def _changed(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    match node:
        case ast.Compare(ops=[op], left=left, comparators=right) if type(op) in COMPARISONS:
            yield ast.Compare(left, [COMPARISONS[type(op)]()], right)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS and not isinstance(left, ast.Constant):
            yield _inside(ast.BinOp(left, OPERATORS[type(op)](), right))
        case ast.BoolOp(op=op, values=values):
            yield _inside(ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.IfExp(body=body, orelse=other):
            yield _inside(body)
            yield _inside(other)
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Call(keywords=[*rest, last], func=func, args=args) if last.arg not in (None, "strict"):
            yield ast.Call(func, args, rest)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _inside(node: ast.expr) -> ast.expr:
    """In parentheses, by way of a call that the unparser writes as such."""
    return ast.Name(f"({ast.unparse(node)})")


@cache
def lines_of_functions(file: Path) -> frozenset[int]:
    """Lines that run when a function is called. All others run on import, for whichever test comes first."""
    functions = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))
    return frozenset(
        line for node in functions for each in node.body for line in range(each.lineno, (each.end_lineno or 0) + 1)
    )


def draw(number: int, seed: int) -> list[Mutant]:
    """`number` mutants, the same share from every room: those whose texts have the lowest hashes."""

    def lot(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.file} {mutant.before} {mutant.after}".encode()).digest()

    drawn: list[Mutant] = []
    for room, patterns in ROOMS.items():
        files = sorted({file for pattern in patterns for file in ROOT.glob(pattern) if file.name != "__init__.py"})
        every = [mutant for file in files for mutant in mutants_of(file, room)]
        drawn += sorted(every, key=lot)[: -(-number // len(ROOMS))]
    return drawn


@dataclass(frozen=True)
class Coverage:
    """Which tests execute which lines, and how long each test takes. Lines go by their text, so that they may move."""

    seconds: dict[str, float]
    tests: dict[str, dict[str, list[str]]]  # file -> line -> tests

    def judges(self, mutant: Mutant, most: float) -> tuple[list[str], int]:
        """The tests to run on a mutant, in order, the first in any case, others as long as `most` seconds last;
        and how many execute its line."""
        lines = self.tests.get(mutant.file, {})
        own = lines.get(mutant.before) if mutant.line in lines_of_functions(ROOT / mutant.file) else None
        tests = own or sorted(set().union(*lines.values()))
        room = f"tests/{mutant.room}/"
        tests = sorted(tests, key=lambda test: (not test.startswith(room), self.seconds.get(test, 0.0), test))
        passed = accumulate(self.seconds.get(test, 0.0) for test in tests)
        few = [test for place, (test, sum_) in enumerate(zip(tests, passed, strict=True)) if not place or sum_ < most]
        return few, len(tests)

    def with_newer(self, newer: Coverage) -> Coverage:
        """Both; what the newer one says of a test holds."""
        tests: dict[str, dict[str, list[str]]] = {}
        for each, old in ((self, newer.seconds), (newer, {})):
            for file, lines in each.tests.items():
                for line, names in lines.items():
                    tests.setdefault(file, {}).setdefault(line, []).extend(name for name in names if name not in old)
        return Coverage(self.seconds | newer.seconds, tests)


def covered(folder: Path, workers: str, tests: list[str]) -> Coverage:
    """The suite, run once under coverage."""
    from coverage.numbits import numbits_to_nums

    command = [sys.executable, "-m", "pytest", "-q", "-m", USUAL, "-n", workers, "--cov=fssbench"]
    command += ["--cov-context=test", "--cov-report=", "--durations=0", "--durations-min=0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "COVERAGE_FILE": str(folder / "coverage"), "COVERAGE_CORE": "ctrace"}
    ran = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 1):
        raise SystemExit(f"the suite cannot run:\n{ran.stdout[-3000:]}{ran.stderr[-500:]}")
    if ran.returncode:  # what fails alone, too, judges nothing; the hour that the others took is not thrown away
        print("\n".join(line for line in ran.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))), flush=True)
    seconds: dict[str, float] = {}
    for words in (line.split() for line in ran.stdout.splitlines()):
        if len(words) >= 3 and words[1] in ("call", "setup"):  # "0.12s call tests/x.py::test_y[a b]"
            name = " ".join(words[2:])
            seconds[name] = seconds.get(name, 0.0) + float(words[0].removesuffix("s"))
    names: dict[str, dict[str, set[str]]] = {}
    with sqlite3.connect(folder / "coverage") as data:
        files = dict(data.execute("select id, path from file"))
        contexts = dict(data.execute("select id, context from context"))
        texts = {file: [line.strip() for line in Path(path).read_text().splitlines()] for file, path in files.items()}
        for file, context, bits in data.execute("select file_id, context_id, numbits from line_bits"):
            test = contexts[context].partition("|")[0]
            of_file = names.setdefault(Path(files[file]).relative_to(ROOT).as_posix(), {})
            for line in numbits_to_nums(bits) if test else ():
                if line <= len(texts[file]):  # a template's compiled code counts lines of its own
                    of_file.setdefault(texts[file][line - 1], set()).add(test)
    return Coverage(seconds, {file: {line: sorted(each) for line, each in of.items()} for file, of in names.items()})


def write(file: Path, text: str) -> None:
    """The file, whole or as it was. (fssbench's own writer would be the fssbench that all tests then import.)"""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text)
    part.replace(file)


def judge(mutant: Mutant, limits: dict[str, float], others: Collection[str] | None, tree: Path) -> Mutant:
    """Run tests on a tree with the mutant in it until one fails or takes longer than its limit in seconds.

    With `others`, tests of their files that are neither are newer than the coverage, and go first.
    """
    target = tree / mutant.file
    original = target.read_text()
    lines = original.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    target.write_text("".join(lines))
    report = tree / "failed.txt"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _run_tests(limits, others, tree, report)
        finally:
            os._exit(1)  # nothing of the parent's is cleared up twice, whatever pytest raises
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        target.write_text(original)
    if status == -signal.SIGALRM:
        return replace(mutant, verdict="timeout")
    killer = report.read_text() if report.exists() else f"the process ended with {status}"
    return replace(mutant, verdict="killed" if killer else "survived", killer=killer)


def _run_tests(limits: dict[str, float], others: Collection[str] | None, tree: Path, report: Path) -> None:
    """In the child: pytest on the tree, with all output thrown away; the first failing test's name goes to `report`.

    An alarm ends the process, wherever it hangs.
    """
    import pytest

    os.setpgid(0, 0)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)

    class Watch:
        failed = ""

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            place = {test: number for number, test in enumerate(limits)}
            items[:] = [
                item for item in items if item.nodeid in place or (others is not None and item.nodeid not in others)
            ]
            items.sort(key=lambda item: place.get(item.nodeid, -1))

        def pytest_runtest_logstart(self, nodeid: str) -> None:
            signal.alarm(int(limits.get(nodeid, max(limits.values()))))

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

    watch = Watch()
    signal.alarm(300)  # while tests are collected
    files = dict.fromkeys(file for file in (test.partition("::")[0] for test in limits) if Path(file).exists())
    quietly = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    status = pytest.main(["-x", "-q", "-m", USUAL, *quietly, *files], plugins=[watch])
    report.write_text(watch.failed or ("" if status in (0, 5) else f"pytest status {status}"))
    os._exit(0)


def copy_to(tree: Path) -> None:
    """What git keeps or would keep; real data beside the checkout are beside the copy."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    for name in listed.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    if (ROOT.parent / "shared").is_dir():
        (tree.parent / "shared").symlink_to(ROOT.parent / "shared")


@dataclass(frozen=True)
class Court:
    """A copy of the tree, and the tests that are trusted to judge there."""

    tree: Path
    coverage: Coverage
    most: float
    passing: set[str]
    failing: set[str]

    def judged(self, mutant: Mutant) -> Mutant:
        """The mutant with its verdict."""
        few, every = self.coverage.judges(mutant, self.most)
        few = [test for test in few if test not in self.failing]
        others = {*self.coverage.seconds, *self.failing}
        mutant = replace(mutant, tests=f"{len(few)} of {every}")
        if not few:
            return replace(mutant, verdict="not covered")
        limits = {test: max(30.0, 10 * self.coverage.seconds.get(test, 0.0)) for test in few}
        found = judge(mutant, limits, others, self.tree)
        if found.verdict == "timeout":
            longer = {test: 3 * limit for test, limit in limits.items()}
            found = judge(mutant, longer, others, self.tree)
        in_file = [test for test in few if test.startswith(f"{found.killer}::")]  # a file that cannot be collected
        for test in [found.killer] if "::" in found.killer else in_file[:1]:
            if not self.passes(test):
                print(f"judges no more, as it fails without a fault: {test}", flush=True)
                return self.judged(mutant)
        return found

    def passes(self, test: str) -> bool:
        """Whether a test passes on the unchanged tree, or a kill would mean nothing."""
        if test not in self.passing:
            same = Mutant("", "unchanged", 1, "", "")
            (self.tree / same.file).write_text("\n")
            limit = {test: max(90.0, 30 * self.coverage.seconds.get(test, 0.0))}
            found = judge(same, limit, None, self.tree)
            (self.passing if found.verdict == "survived" else self.failing).add(test)
        return test in self.passing


def main() -> None:
    """Draw, judge, print the survivors, and write everything as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--number", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rooms", nargs="*", choices=ROOMS)
    options.add_argument("--coverage", type=Path, help="folder that keeps the coverage between calls")
    options.add_argument("--tests", nargs="*", default=[], help="run only these under coverage, and add what they say")
    options.add_argument("--workers", default="auto", help="for the run under coverage")
    options.add_argument("--most", type=float, default=60, help="seconds of tests, by their usual time, a mutant")
    options.add_argument("--out", type=Path, help="JSON file that gets each verdict and keeps those it has")
    options.add_argument("--again", action="store_true", help="judge again what survived")
    chosen = options.parse_args()
    folder = chosen.coverage or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "tests.json"
    coverage = Coverage(**json.loads(cache.read_text())) if cache.exists() else Coverage({}, {})
    if chosen.tests or not cache.exists():
        coverage = coverage.with_newer(covered(folder, chosen.workers, chosen.tests))
        write(cache, json.dumps(asdict(coverage)))
    wanted = [mutant for mutant in draw(chosen.number, chosen.seed) if mutant.room in (chosen.rooms or ROOMS)]
    kept = [Mutant(**each) for each in json.loads(chosen.out.read_text())] if chosen.out and chosen.out.exists() else []
    known = {mutant.place: mutant for mutant in kept}
    again = ("survived", "not covered") if chosen.again else ()
    left = [each for each in wanted if each.place not in known or known[each.place].verdict in again]
    for module in ("torch", "torchvision", "timm", "scipy.stats", "pandas", "matplotlib.pyplot", "h5py", "hypothesis"):
        __import__(module)
    with tempfile.TemporaryDirectory() as name:
        court = Court(Path(name) / "tree", coverage, chosen.most, set(), set())
        copy_to(court.tree)
        if probe := next((mutant for mutant in left if coverage.judges(mutant, 1)[0]), None):
            same = court.judged(replace(probe, after=(ROOT / probe.file).read_text().splitlines()[probe.line - 1]))
            if same.verdict != "survived" or court.judged(replace(probe, after="no Python")).verdict != "killed":
                raise SystemExit(f"expected tests that pass in a copy and notice when {probe.file} is broken: {same}")
        for number, mutant in enumerate(left, 1):
            known[mutant.place] = found = court.judged(mutant)
            what = f"{found.killer} ({found.tests} tests)"
            print(f"{number}/{len(left)} {found.verdict:11s} {mutant.file}:{mutant.line} {what}", flush=True)
            if chosen.out:
                write(chosen.out, json.dumps([asdict(each) for each in known.values()], indent=1) + "\n")
    verdicts = [known[mutant.place] for mutant in wanted]
    alive = [mutant for mutant in verdicts if mutant.verdict in ("survived", "not covered")]
    for mutant in alive:
        print(f"\n{mutant.verdict} {mutant.tests} tests: {mutant.file}:{mutant.line}")
        print(f"  - {mutant.before}\n  + {mutant.after.strip()}")
    frame = pd.DataFrame([asdict(each) for each in verdicts], columns=[each.name for each in fields(Mutant)])
    table = pd.crosstab(frame.room, frame.verdict, margins=True)
    print(f"\n{table.to_string()}\n{1 - len(alive) / max(1, len(verdicts)):.0%} of {len(verdicts)} noticed")


if __name__ == "__main__":
    main()
