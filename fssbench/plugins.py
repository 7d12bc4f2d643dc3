"""Classes by name: built in, registered by an installed package, or named by module or file; imported on first use."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from fssbench.errors import FssbenchError, unknown_name


@dataclass(frozen=True)
class Plugins:
    """The names of one kind of class. Everything is "module:Class", so that listing names imports nothing."""

    kind: str  # as messages call it
    base: str  # what each class derives from
    built_in: Mapping[str, str]
    group: str  # of entry points
    error: type[FssbenchError]
    needs: tuple[str, ...] = ()  # attributes that each class has

    def names(self) -> list[str]:
        """Every name that `find` knows: what is built in, and installed plug-ins."""
        return sorted({*self.built_in, *(point.name for point in entry_points(group=self.group))})

    def find(self, name: str) -> Any:
        """A class by its name, an installed plug-in's name, `package.module:Class` or `file.py:Class`.

        Raises `error` with the nearest known names, or with what failed while importing.
        """
        if name in self.built_in:
            return self._resolve(name, self.built_in[name])
        for point in entry_points(group=self.group, name=name):
            return self._resolve(name, point.value)
        if ":" in name:
            return self._resolve(name, name)
        raise self.error(
            unknown_name(self.kind, name, self.names())
            + f". A {self.kind} of your own goes by 'package.module:Class' or 'file.py:Class'."
        )

    def _resolve(self, name: str, target: str) -> Any:
        base_module, _, base_name = self.base.rpartition(":")
        base = getattr(importlib.import_module(base_module), base_name)
        module_name, _, class_name = target.rpartition(":")
        try:
            module = _imported(module_name)
        except (Exception, SystemExit) as error:
            raise self.error(f"{self.kind} {name!r} could not be imported from {target!r}: {reason(error)}") from error
        found = getattr(module, class_name, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            offered = [
                key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)
            ]
            raise self.error(
                f"{self.kind} {name!r}: expected {class_name!r} in {module_name!r} to be a subclass of "
                f"{base_module}.{base_name}, found {'nothing of that name' if found is None else repr(found)}"
                f" (it has {', '.join(key for key in offered if key != base_name) or 'none'})"
            )
        missing = [word for word in self.needs if not hasattr(found, word)]
        if missing:
            raise self.error(
                f"{self.kind} {name!r}: expected {target!r} to say its {' and '.join(missing)}, found none"
            )
        return found


def _imported(name: str) -> ModuleType:
    """A module by its dotted name, also beside the user, or by the path of its file."""
    if name.endswith(".py"):
        return _from_file(Path(name))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if error.name != name.partition(".")[0] or here in sys.path:
            raise
        sys.path.append(here)  # last, so that nothing there hides what is installed
        return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    known = sys.modules.get(path.stem)
    if known is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path.resolve():
            return known
        raise ImportError(f"a module called {path.stem!r} is loaded already: rename {path}")
    if not path.is_file():
        raise ImportError(f"no file {path}")
    spec = spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = sys.modules[path.stem] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    sys.path.append(str(path.resolve().parent))  # other processes import it by its name
    return module


def reason(error: BaseException) -> str:
    """An error in a line, with the line of the user's file that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and frames[-1].filename != __file__ else ""
    text = str(error) or "no message"
    return text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}{place}"
