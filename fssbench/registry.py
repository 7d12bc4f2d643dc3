"""Names of methods, resolved on first use, so that `fssbench --help` imports no torch."""

from __future__ import annotations

import importlib
import sys
import traceback
from importlib.metadata import entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fssbench.errors import MethodError, unknown_name

if TYPE_CHECKING:
    from fssbench.method import Method

BUILT_IN: dict[str, str] = {
    "bam": "methods.bam:BAM",
    "canet": "methods.canet:CANet",
    "dcama": "methods.dcama:DCAMA",
    "fsil": "methods.fsil:FSIL",
    "fss1000": "methods.fss1000:FSS1000",
    "gfsam": "methods.gfsam:GFSAM",
    "hdmnet": "methods.hdmnet:HDMNet",
    "hsnet": "methods.hsnet:HSNet",
    "linear-probe": "methods.baselines:LinearProbe",
    "nearest": "methods.baselines:Nearest",
    "oslsm": "methods.oslsm:OSLSM",
    "panet": "methods.panet:PANet",
    "persam": "methods.persam:PerSAM",
    "pfenet": "methods.pfenet:PFENet",
    "pl": "methods.pl:PL",
    "pmms": "methods.pmms:PMMs",
    "prototype": "methods.baselines:Prototype",
    "rpmms": "methods.pmms:RPMMs",
    "sgone": "methods.sgone:SGOne",
    "ssp": "methods.ssp:SSP",
}

ENTRY_POINTS = "fssbench.methods"


def method_names() -> list[str]:
    """Every name that `find_method` knows: built-in methods and installed plug-ins."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_method(name: str) -> type[Method]:
    """The class of a method, by its name, an installed plug-in's name, `package.module:Class` or `file.py:Class`.

    Raises `MethodError` with the nearest known names, or with what failed while importing.
    """
    target = BUILT_IN.get(name)
    if target is not None:
        _check_methods_package()
        return _resolve(name, target)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _resolve(name, point.value)
    if ":" in name:
        return _resolve(name, name)
    raise MethodError(
        unknown_name("method", name, method_names())
        + ". A method of your own goes by 'package.module:Class' or 'file.py:Class'."
    )


def _resolve(name: str, target: str) -> type[Method]:
    from fssbench.method import Method

    module_name, _, class_name = target.rpartition(":")
    try:
        module = _imported(module_name)
    except (Exception, SystemExit) as error:
        raise MethodError(f"method {name!r} could not be imported from {target!r}: {_reason(error)}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        offered = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Method)]
        raise MethodError(
            f"method {name!r}: expected {class_name!r} in {module_name!r} to be a subclass of fssbench.method.Method, "
            f"found {'nothing of that name' if found is None else repr(found)}"
            f" (it has {', '.join(key for key in offered if key != 'Method') or 'none'})"
        )
    missing = [word for word in ("info", "Config") if not hasattr(found, word)]
    if missing:
        raise MethodError(f"method {name!r}: expected {target!r} to say its {' and '.join(missing)}, found none")
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
    return module


def _reason(error: BaseException) -> str:
    """An error in a line, with the line of the user's file that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and frames[-1].filename != __file__ else ""
    text = str(error) or "no message"
    return text if isinstance(error, ImportError) else f"{type(error).__name__}: {text}{place}"


def _check_methods_package() -> None:
    """A folder `methods/` in the working directory can shadow ours under `python -m`; say so clearly."""
    ours = Path(__file__).resolve().parent.parent / "methods"
    spec = find_spec("methods")
    found = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
    if found != ours:
        raise MethodError(
            f"the package 'methods' is not fssbench's: expected {ours}, found {found}. "
            "Start `fssbench` by its command instead of `python -m`, or from another folder."
        )
