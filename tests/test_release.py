"""What has to agree when a version is released."""

import re
import tomllib

from repository import ROOT

import fssbench


def test_the_version_is_the_same_wherever_it_stands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert {citation and citation[1], newest and newest[1], project} == {fssbench.__version__}


def test_what_ci_installs_lies_within_what_the_package_promises() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    names = {name.lower().replace("_", "-") for name in pinned}
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[>=<\[]", each)[0] for each in promised} <= names
