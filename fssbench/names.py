"""What names may be: those of images stand in tables, those of data sets and methods in paths."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath, PureWindowsPath

SEPARATOR = "|"  # between image ids in one cell of a table: no id holds it

_LONGEST = 255  # bytes
_PLAIN = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)  # nothing below can be wrong with these
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def image_id_problem(image_id: str) -> str:
    """Why a text cannot be an image's id; empty if it can. An id is a relative path in POSIX form, of one line.

    >>> image_id_problem("dogs/my image 1"), image_id_problem("../passwd")
    ('', "the part '..'")
    """
    if len(image_id) <= _LONGEST and _PLAIN.fullmatch(image_id):
        return ""
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in image_id):
        return "a control character"
    if not 1 <= len(image_id.encode("utf-8")) <= _LONGEST:
        return f"{len(image_id.encode('utf-8'))} bytes, where 1 to {_LONGEST} fit"
    if image_id != image_id.strip():
        return "a blank at an end"
    forbidden = [c for c in (SEPARATOR, "\\") if c in image_id]
    if forbidden:
        return f"the character {forbidden[0]!r}"
    wrong = [part for part in image_id.split("/") if part in ("", ".", "..")]
    if wrong or PureWindowsPath(image_id).drive:
        return f"the part {wrong[0]!r}" if wrong else "a drive"
    return ""


def wrong_image_id(image_ids: Sequence[str]) -> str:
    """The first text that cannot be an image's id, and why; empty if all can."""
    found = ((image_id, image_id_problem(image_id)) for image_id in image_ids)
    return next((f"{image_id!r} with {problem}" for image_id, problem in found if problem), "")


def name_problem(name: str) -> str:
    """Why a text cannot name a data set or method in a path; empty if it can.

    >>> name_problem("pascal5i"), name_problem("../x")
    ('', "'../x', expected letters, digits, '.', '_' and '-', at most 64, a letter or digit first")
    """
    if _NAME.fullmatch(name):
        return ""
    return f"{name[:80]!r}, expected letters, digits, '.', '_' and '-', at most 64, a letter or digit first"


def plain_name(method: str) -> str:
    """The name of a method in records and checkpoints: one that goes by its file is called as by its module.

    So it is the same from whatever folder it was named.

    >>> plain_name("../own/my_method.py:MyMethod"), plain_name("panet")
    ('my_method:MyMethod', 'panet')
    """
    module, _, title = method.rpartition(":")
    return f"{PurePath(module).stem}:{title}" if module.endswith(".py") else method


def file_name(name: str) -> str:
    """A method's or backbone's name as part of a file's name.

    >>> file_name("own/my_method.py:MyMethod"), file_name("timm:resnet18")
    ('my_method-MyMethod', 'timm-resnet18')
    """
    return plain_name(name).replace(":", "-")
