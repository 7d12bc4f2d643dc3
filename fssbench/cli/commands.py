"""Imports every module that registers commands, in the order of `fssbench --help`.

The modules import only the standard library and typer at the top; everything else inside the commands.
"""

from fssbench.cli import site  # noqa: F401
from fssbench.cli import run  # noqa: F401
from fssbench.cli import banks  # noqa: F401
from fssbench.cli import report  # noqa: F401
from fssbench.cli import methods  # noqa: F401
from fssbench.cli import parity  # noqa: F401
from fssbench.cli import tools  # noqa: F401
from fssbench.cli import data  # noqa: F401
