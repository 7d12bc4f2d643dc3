"""Which texts may be an image's name in a bank and in a table."""

from __future__ import annotations

import pytest

from fssbench.names import image_id_problem


@pytest.mark.parametrize(
    "name", ["2007_000032", "dogs/my image 1", "a.b/c-d", "COCO_val2014_000000000042", "_", ".hidden", "é/ß", "x" * 255]
)
def test_plain_relative_names_are_fine(name: str) -> None:
    assert image_id_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a/../b", "the part '..'"),
        (".", "the part '.'"),
        ("a//b", "the part ''"),
        ("/a", "the part ''"),
        ("a/", "the part ''"),
        ("C:a", "a drive"),
        ("a|b", "the character '|'"),
        ("a\\b", "the character '\\\\'"),
        ("a\n", "a control character"),
        ("a\u2028b", "a control character"),
        ("a\udce9", "a control character"),
        (" a", "a blank at an end"),
        ("", "0 bytes"),
        ("x" * 256, "256 bytes"),
        ("é" * 128, "256 bytes"),
    ],
)
def test_what_leads_elsewhere_or_breaks_a_table_is_refused(name: str, problem: str) -> None:
    assert image_id_problem(name).startswith(problem)
