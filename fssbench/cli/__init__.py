"""The `fssbench` command: thin typer commands that parse and call. Nothing heavy is imported before a command runs."""

from fssbench.cli.app import main

__all__ = ["main"]
