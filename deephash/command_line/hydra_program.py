"""`deephash train` and `deephash evaluate`: commands whose arguments Hydra parses."""

import sys
from importlib import import_module

import typer


def train(context: typer.Context) -> None:
    """Fit a hasher and score it, for example `deephash train method=itq bits=64`; `--help` lists the choices.

    Hydra parses all arguments; they are the same as those of train.py in a clone.
    """
    run_program("train", context.args)


def evaluate(context: typer.Context) -> None:
    """Score a saved run again, for example `deephash evaluate run=FOLDER`; `--help` lists the settings.

    Hydra parses all arguments; they are the same as those of evaluate.py in a clone.
    """
    run_program("evaluate", context.args)


def run_program(name: str, arguments: list[str]) -> None:
    """Run `deephash.command_line.programs.NAME` with these arguments, as if its file had been started.

    Args:
        name: train or evaluate.
        arguments: Hydra's overrides and options.
    """
    program = import_module(f"deephash.command_line.programs.{name}")
    # Hydra reads its arguments from here, and Lightning starts the same file again for further processes.
    sys.argv = [str(program.__file__), *arguments]
    program.main()
