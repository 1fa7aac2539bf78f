"""`deephash shard`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Overwrite, Run


def shard(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Folder to write them into.", show_default=False)],
    shards: Annotated[int, typer.Option(help="Files that the database is cut into.", min=1)] = 4,
    overwrite: Overwrite = False,
) -> None:
    """Write a run's own queries and database as files of codes with labels, as `deephash score` takes them."""
    from deephash.cluster.run_shards import write_run_shards

    items = write_run_shards(run, out.expanduser(), shards, overwrite)
    typer.echo(f"{items:,} codes in {shards} shards in {out}/database, and the queries in {out}/queries.npy")
