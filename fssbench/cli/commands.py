"""Imports every module that registers commands.

They import only the standard library, typer and rich at the top; everything else inside the commands.
"""

from fssbench.cli import (  # noqa: F401
    banks,
    checkpoints,
    data,
    methods,
    parity,
    plugins,
    report,
    reproduce,
    robustness,
    run,
    site,
    sweep,
    tools,
    train,
)
