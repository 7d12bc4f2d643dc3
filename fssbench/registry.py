"""Names of methods, resolved on first use, so that `fssbench --help` imports no torch."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
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
    """The class of a method, by its name, an installed plug-in's name, or `package.module:Class`.

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
        unknown_name("method", name, method_names()) + ". A method of your own goes by 'package.module:Class'."
    )


def _resolve(name: str, target: str) -> type[Method]:
    from fssbench.method import Method

    module_name, _, class_name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise MethodError(f"method {name!r} could not be imported from {target!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MethodError(
            f"method {name!r}: expected {target!r} to be a subclass of fssbench.method.Method, found {found!r}"
        )
    return found


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
