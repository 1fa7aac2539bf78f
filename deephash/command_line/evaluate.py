"""`deephash evaluate`."""

import typer


def evaluate(context: typer.Context) -> None:
    """Score a saved run again: `deephash evaluate run=FOLDER`; `--help` lists what can be set.

    All arguments are Hydra's, as evaluate.py of a clone takes them.
    """
    from deephash.command_line.hydra_program import run_program

    run_program("evaluate", context.args)
