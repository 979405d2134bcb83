"""The command line: argument parsing and output over `jobdeck.client`. Heavy imports wait until a command runs."""

from jobdeck.cli.main import main

__all__ = ["main"]
