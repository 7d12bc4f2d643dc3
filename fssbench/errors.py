"""One family of errors: everything a user can cause, and mend, is an `FssbenchError`.

A message says what was expected, what was found, where, and what to do. The command line prints it
without a traceback and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FssbenchError(Exception):
    """A mistake that its reader can mend."""


class DataError(FssbenchError):
    """A data set that is missing, incomplete or inconsistent."""


class PackageError(FssbenchError):
    """A package that an extra of fssbench brings, and this installation has not."""


class BankError(FssbenchError):
    """An episode bank that cannot be used as it is."""


class ProtocolError(FssbenchError):
    """A protocol that cannot be carried out on this data set."""


class MethodError(FssbenchError):
    """A method that is unknown, wrongly configured, or misbehaves."""


class CheckpointError(FssbenchError):
    """Weights that are missing, damaged, or belong to something else."""


class RecordError(FssbenchError):
    """A result that is incomplete, inconsistent, or in another run's hands."""


class UsageError(FssbenchError):
    """Options that contradict each other or name something that is not there."""


class EmptySupportWarning(UserWarning):
    """A support without a pixel of its object: its method has nothing to go by."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not in a list: the nearest ones first, then all of them.

    >>> unknown_name("method", "panett", ["panet", "canet"])
    "unknown method 'panett': did you mean 'panet' or 'canet'? Known: canet, panet"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f": did you mean {' or '.join(repr(n) for n in near)}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}"
