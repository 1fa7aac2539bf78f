"""`deephash serve`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Address


def serve(
    index: Annotated[Path, typer.Argument(help="Folder of deephash index --shards.", show_default=False)],
    replicas: Annotated[int, typer.Option(help="Replicas of each shard.", min=1)] = 1,
    fronts: Annotated[int, typer.Option(help="Processes that merge what shards find.", min=1)] = 1,
    port: Annotated[int, typer.Option(help="Port of HTTP.", min=1, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    address: Address = None,
) -> None:
    """Serve an index in shards by Ray Serve until interrupted; a new release in its folder takes over as it comes.

    POST /search with {"codes": [BASE64, ...], "k": 10}. A shard that does not answer makes status 503, or, with
    "partial": true, a reply that names what is missing.
    """
    from deephash.cluster.shard_service import serve_folder

    for release in serve_folder(index, replicas, fronts, port, host, None, address):
        typer.echo(
            f"http://{host}:{port} serves {release.size:,} codes in {len(release.shards)} shards: {release.name}"
        )
