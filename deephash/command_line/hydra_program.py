"""Handing a command line over to one of Hydra's programs."""

import sys
from importlib import import_module


def run_program(name: str, arguments: list[str]) -> None:
    """Run `deephash.command_line.programs.NAME` on these arguments as if its file had been started.

    Args:
        name: train or evaluate.
        arguments: Hydra's overrides and options.
    """
    program = import_module(f"deephash.command_line.programs.{name}")
    # Hydra reads its arguments from here, and Lightning starts the same file again for further processes.
    sys.argv = [str(program.__file__), *arguments]
    program.main()
