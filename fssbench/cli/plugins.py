"""`fssbench new-method` and `fssbench conformance`: for the author of a method or a data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import typer

from fssbench.cli.app import app, print_json
from fssbench.cli.options import Json


@app.command("new-method")
def new_method(
    name: str = typer.Argument(..., help="What it is called: lower-case letters, digits and underscores."),
    out: Path | None = typer.Option(None, "--out", metavar="DIR", help="Folder to write; must not exist. [./NAME]"),
) -> None:
    """Write a method that runs, its test, and an entry point that gives it a name."""
    from fssbench.scaffold import class_name, write_method

    folder = write_method(name, out or Path(name))
    file, cls = folder / f"{name}.py", class_name(name)
    typer.echo(f"{folder}: {name}.py, test_{name}.py, pyproject.toml\n")
    typer.echo(f"fssbench conformance {file}:{cls}")
    typer.echo(f"fssbench generate-episodes shapes5i && fssbench run {file}:{cls} --dataset shapes5i")
    typer.echo(f"fssbench train {file}:{cls} --dataset shapes5i --recipe lite")
    typer.echo(f"pip install -e {folder}    # then it goes by its name: fssbench run {name}")


@app.command("conformance")
def conformance(
    name: str = typer.Argument(..., help="A method by name or module:Class; with --root, a data set."),
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the small one."),
    settings: list[str] | None = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config."),
    root: Path | None = typer.Option(None, "--root", help="Check a data set, on the data that lie there."),
    lists: str | None = typer.Option(None, "--lists", help="Of a data set: another image list than its own."),
    only: list[str] | None = typer.Option(None, "--only", metavar="CHECK", help="This check alone; can be repeated."),
    as_json: Json = False,
) -> None:
    """Check that a method or a data set does what the rest relies on. Status 1 if it does not."""
    from fssbench.errors import UsageError, unknown_name

    if root is None and lists is not None:
        raise UsageError("--lists is of data sets, which are checked on data: name them by --root.")
    if root is not None and (backbone or settings):
        raise UsageError("--backbone and --set are of methods, --root is of data sets: leave one out.")
    checks, said = _of_dataset(name, root, lists) if root else _of_method(name, backbone, settings)
    unknown = [check for check in only or () if check not in checks]
    if unknown:
        raise UsageError(unknown_name("check", unknown[0], checks))
    rows = [(check, *checks[check]) for check in only or checks]
    found = [(check, about, run()) for check, about, run in rows]
    if as_json:
        print_json([{"check": check, "passed": not problem, "problem": problem or ""} for check, _, problem in found])
    else:
        _table(found, said)
    if any(problem for _, _, problem in found):
        raise typer.Exit(1)


Checks = dict[str, tuple[str, Callable[[], str | None]]]  # what it checks, and what is wrong


def _of_method(name: str, backbone: str | None, settings: list[str] | None) -> tuple[Checks, str]:
    from fssbench.conformance import CHECKS, failure, small_subject
    from fssbench.registry import find_method
    from fssbench.settings import as_text

    subject = small_subject(find_method(name), [*([f"backbone={backbone}"] if backbone else []), *(settings or ())])
    config = " ".join(f"{field}={as_text(value)}" for field, value in subject.config.model_dump().items())
    return {key: (check.__doc__ or "", partial(failure, check, subject)) for key, check in CHECKS.items()}, config


def _of_dataset(name: str, root: Path, lists: str | None) -> tuple[Checks, str]:
    from fssbench.dataset_conformance import CHECKS, Subject, failure
    from fssbench.datasets.registry import find_dataset

    subject = Subject(find_dataset(name), root, lists)
    return {key: (check.__doc__ or "", partial(failure, check, subject)) for key, check in CHECKS.items()}, str(root)


def _table(found: list[tuple[str, str, str | None]], said: str) -> None:
    typer.echo(f"checked with {said}\n")
    for check, about, problem in found:
        typer.echo(f"{'FAILS ' if problem else 'passes'}  {check}: {about.strip()}")
        if problem:
            typer.echo(f"        {problem}")
    failed = sum(bool(problem) for _, _, problem in found)
    typer.echo(f"\n{len(found) - failed} of {len(found)} checks pass.")
