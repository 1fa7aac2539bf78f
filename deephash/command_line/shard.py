"""`deephash shard`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Overwrite, Run


def shard(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Output folder.", show_default=False)],
    shards: Annotated[int, typer.Option(help="Number of files of the database.", min=1)] = 4,
    overwrite: Overwrite = False,
) -> None:
    """Write a run's queries and database as files of codes with labels, for `deephash score`."""
    from deephash.cluster.run_shards import write_run_shards

    items = write_run_shards(run, out.expanduser(), shards, overwrite)
    typer.echo(f"{items:,} codes in {shards} shards in {out}/database, and the queries in {out}/queries.npy")
