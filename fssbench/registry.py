"""Names of methods, resolved on first use, so that `fssbench --help` imports no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fssbench.errors import MethodError
from fssbench.plugins import Plugins

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
    "matcher": "methods.matcher:Matcher",
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

METHODS = Plugins(
    "method", "fssbench.method:Method", BUILT_IN, "fssbench.methods", MethodError, needs=("info", "Config")
)


def method_names() -> list[str]:
    """Every name that `find_method` knows: built-in methods and installed plug-ins."""
    return METHODS.names()


def find_method(name: str) -> type[Method]:
    """The class of a method, by its name, an installed plug-in's name, `package.module:Class` or `file.py:Class`.

    Raises `MethodError` with the nearest known names, or with what failed while importing.
    """
    if name in BUILT_IN:
        _check_methods_package()
    found: type[Method] = METHODS.find(name)
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
