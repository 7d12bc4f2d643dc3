"""Plant faults in the code and see whether the tests notice: `python benchmarks/mutants.py [--number 150]`.

The suite runs once under coverage to learn which tests execute which line, and how long each takes. Then each mutant, a
single changed operator, number, condition or argument, is written into a copy of the tree and judged by the tests that
execute its line, the fastest first, in a process forked from one that has imported torch already. A mutant that no test
notices *survives*: a missing test, or a change that means nothing. Mutants are drawn with a seed, equally from rooms.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "banks": ("fssbench/banks/*.py", "fssbench/protocol*.py"),
    "engine": ("fssbench/engine/*.py", "fssbench/method.py", "fssbench/score.py"),
    "scoring": ("fssbench/scoring/*.py",),
    "reports": ("fssbench/reports/**/*.py", "fssbench/audit/*.py", "fssbench/records.py"),
    "training": ("fssbench/training/*.py", "fssbench/regime.py", "fssbench/checkpoints.py"),
}
UNUSED = shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__", "site")
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One changed place."""

    room: str
    file: str
    line: int
    before: str
    after: str
    verdict: str = ""  # "killed", "survived", "timeout" (killed too), "not covered"
    killer: str = ""


def mutants_of(file: Path, room: str) -> Iterator[Mutant]:
    """Every mutant of a file; each is one node of its syntax tree changed. Docstrings and annotations are left."""
    text = file.read_text()
    tree = ast.parse(text)
    lines = text.splitlines()
    skipped = {id(node) for each in ast.walk(tree) for hint in _hints(each) for node in ast.walk(hint)}
    for node in ast.walk(tree):
        if id(node) in skipped or not hasattr(node, "lineno") or node.lineno != node.end_lineno:
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
        case ast.Call(keywords=[*rest, last], func=func, args=args) if last.arg:
            yield ast.Call(func, args, rest)
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def _inside(node: ast.expr) -> ast.expr:
    """In parentheses, by way of a call that the unparser writes as such."""
    return ast.Name(f"({ast.unparse(node)})")


def draw(number: int, seed: int) -> list[Mutant]:
    """`number` mutants, the same share from every room."""
    rng = random.Random(seed)
    drawn: list[Mutant] = []
    for room, patterns in ROOMS.items():
        files = sorted({file for pattern in patterns for file in ROOT.glob(pattern) if file.name != "__init__.py"})
        every = [mutant for file in files for mutant in mutants_of(file, room)]
        drawn += rng.sample(every, min(len(every), -(-number // len(ROOMS))))
    return drawn


def covered(folder: Path, workers: str, tests: list[str]) -> dict[tuple[str, int], list[str]]:
    """(file, line) -> the tests that execute it, the fastest first: the suite run once under coverage."""
    from coverage.numbits import numbits_to_nums

    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not browser", "-n", workers, "--cov=fssbench"]
    command += ["--cov-context=test", "--cov-report=", "--durations=0", "--durations-min=0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "COVERAGE_FILE": str(folder / "coverage"), "COVERAGE_CORE": "ctrace"}
    ran = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(
            f"the suite has to pass before mutants mean anything:\n{ran.stdout[-3000:]}{ran.stderr[-500:]}"
        )
    seconds: dict[str, float] = {}
    for words in (line.split() for line in ran.stdout.splitlines()):
        if len(words) >= 3 and words[1] in ("call", "setup"):  # "0.12s call tests/x.py::test_y[a b]"
            name = " ".join(words[2:])
            seconds[name] = seconds.get(name, 0.0) + float(words[0].removesuffix("s"))
    names: dict[tuple[str, int], set[str]] = {}
    with sqlite3.connect(folder / "coverage") as data:
        files = dict(data.execute("select id, path from file"))
        contexts = dict(data.execute("select id, context from context"))
        for file, context, bits in data.execute("select file_id, context_id, numbits from line_bits"):
            test = contexts[context].partition("|")[0]
            for line in numbits_to_nums(bits) if test else ():
                names.setdefault((Path(files[file]).relative_to(ROOT).as_posix(), line), set()).add(test)
    return {place: sorted(each, key=lambda name: (seconds.get(name, 0.0), name)) for place, each in names.items()}


def judge(mutant: Mutant, tests: list[str], tree: Path, most: float) -> Mutant:
    """Run the tests on a tree with the mutant in it, until one fails."""
    if not tests:
        return replace(mutant, verdict="not covered")
    target = tree / mutant.file
    original = target.read_text()
    lines = original.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    target.write_text("".join(lines))
    report = tree / "failed.txt"
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _run_tests(tests, tree, report)
    try:
        ended = time.monotonic() + most
        while time.monotonic() < ended:
            if os.waitpid(child, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.killpg(child, 9)
            os.waitpid(child, 0)
            return replace(mutant, verdict="timeout")
    finally:
        target.write_text(original)
    killer = report.read_text() if report.exists() else "the process died"
    return replace(mutant, verdict="killed" if killer else "survived", killer=killer)


def _run_tests(tests: list[str], tree: Path, report: Path) -> None:
    """In the child: pytest on the tree, with all output thrown away; the first failing test's name goes to `report`."""
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

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

        def pytest_collectreport(self, report: pytest.CollectReport) -> None:
            if report.failed and not self.failed:
                self.failed = report.nodeid

    watch = Watch()
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[watch])
    report.write_text(watch.failed or ("" if status == 0 else f"pytest status {status}"))
    os._exit(0)


def main() -> None:
    """Draw, judge, print the survivors, and write everything as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--number", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--rooms", nargs="*", choices=ROOMS)
    options.add_argument("--coverage", type=Path, help="folder that keeps the coverage between calls")
    options.add_argument("--tests", nargs="*", default=[], help="only these tests, for a quick look at one room")
    options.add_argument("--workers", default="auto", help="for the run under coverage")
    options.add_argument("--most", type=float, default=120, help="seconds a mutant may take")
    options.add_argument("--out", type=Path, help="write a JSON file")
    chosen = options.parse_args()
    folder = chosen.coverage or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / "tests.json"
    if not cache.exists():
        tests = covered(folder, chosen.workers, chosen.tests)
        cache.write_text(json.dumps([[*place, names] for place, names in tests.items()]))
    by_place = {(file, line): names for file, line, names in json.loads(cache.read_text())}
    wanted = [mutant for mutant in draw(chosen.number, chosen.seed) if mutant.room in (chosen.rooms or ROOMS)]
    for module in ("torch", "torchvision", "timm", "scipy.stats", "pandas", "matplotlib.pyplot", "h5py", "hypothesis"):
        __import__(module)
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__", "site", "data")
        )
        shared = ROOT.parent / "shared"
        if shared.is_dir():
            (Path(name) / "shared").symlink_to(shared)
        judged = []
        if wanted:  # the unchanged tree has to pass, or every kill would be false
            same = replace(wanted[0], after=(ROOT / wanted[0].file).read_text().splitlines()[wanted[0].line - 1])
            tests = max((by_place.get((mutant.file, mutant.line), []) for mutant in wanted), key=len)
            control = judge(same, tests, tree, 10 * chosen.most)
            if control.verdict != "survived":
                raise SystemExit(f"{control.killer} fails on the unchanged copy: expected it to pass there")
        for number, mutant in enumerate(wanted, 1):
            judged.append(judge(mutant, by_place.get((mutant.file, mutant.line), []), tree, chosen.most))
            print(f"{number}/{len(wanted)} {judged[-1].verdict:11s} {mutant.file}:{mutant.line}", flush=True)
    alive = [mutant for mutant in judged if mutant.verdict in ("survived", "not covered")]
    for mutant in alive:
        print(f"\n{mutant.verdict}: {mutant.file}:{mutant.line}\n  - {mutant.before}\n  + {mutant.after.strip()}")
    for room in ROOMS:
        of_room = [mutant for mutant in judged if mutant.room == room]
        print(f"{room:9s} {sum(mutant not in alive for mutant in of_room)} of {len(of_room)} killed")
    print(f"{len(judged) - len(alive)} of {len(judged)} killed ({100 * (1 - len(alive) / max(1, len(judged))):.0f} %)")
    if chosen.out:
        chosen.out.write_text(json.dumps([asdict(mutant) for mutant in judged], indent=1) + "\n")


if __name__ == "__main__":
    main()
