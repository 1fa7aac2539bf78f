"""`deephash serve`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Address, HostNames


def serve(
    index: Annotated[Path, typer.Argument(help="Folder of deephash index.", show_default=False)],
    replicas: Annotated[int, typer.Option(help="Replicas of each shard.", min=1)] = 1,
    fronts: Annotated[int, typer.Option(help="Processes that listen and merge what shards find.", min=1)] = 1,
    port: Annotated[int, typer.Option(help="Port of HTTP; 0 takes a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    name: HostNames = None,
    address: Address = None,
) -> None:
    """Serve an index until interrupted; another one in its folder takes over as it comes, while queries go on.

    An index of --shards is served by Ray Serve, a process for each replica of a shard; any other by this process alone.
    POST /search with {"codes": [BASE64, ...], "k": 10}. A shard that does not answer makes status 503, or, with
    "partial": true, a reply that names what is missing.
    """
    from deephash.indexes.sharded_index import IndexRelease, is_sharded
    from deephash.validation import InvalidInputError

    def ready(url: str, release: IndexRelease) -> None:
        shards = f"{len(release.shards)} shard{'s' if len(release.shards) > 1 else ''}"
        typer.echo(f"{url} serves {release.size:,} codes in {shards}: {release.name}")

    if is_sharded(index):
        from deephash.cluster.shard_service import serve_shards

        serve_shards(index, host, port, ready, replicas, fronts, address, name or ())
        return
    if replicas > 1 or fronts > 1 or address is not None:
        raise InvalidInputError(
            f"{index} has no shards, and --replicas, --fronts and --address are of those; build it with --shards."
        )
    from deephash.cluster.index_service import serve_index

    serve_index(index, host, port, ready, name or ())
