"""`deephash train` and `deephash evaluate`: commands whose arguments Hydra reads."""

import sys
from importlib import import_module

import typer


def train(context: typer.Context) -> None:
    """Fit a hasher and score it: `deephash train method=itq bits=64`; `--help` lists the choices.

    All arguments are Hydra's, as train.py of a clone takes them.
    """
    run_program("train", context.args)


def evaluate(context: typer.Context) -> None:
    """Score a saved run again: `deephash evaluate run=FOLDER`; `--help` lists what can be set.

    All arguments are Hydra's, as evaluate.py of a clone takes them.
    """
    run_program("evaluate", context.args)


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
