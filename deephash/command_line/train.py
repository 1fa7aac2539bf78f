"""`deephash train`."""

import typer


def train(context: typer.Context) -> None:
    """Fit a hasher and score it: `deephash train method=itq bits=64`; `--help` lists the choices.

    All arguments are Hydra's, as train.py of a clone takes them.
    """
    from deephash.command_line.hydra_program import run_program

    run_program("train", context.args)
