"""`deephash serve`."""

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Address, HostNames

TOKEN = "DEEPHASH_TOKEN"
"""Environment variable of the token of requests; other users can read the arguments of a command."""


def serve(
    index: Annotated[Path, typer.Argument(help="Folder of an index that deephash index made.", show_default=False)],
    replicas: Annotated[int, typer.Option(help="Number of replicas of each shard.", min=1)] = 1,
    fronts: Annotated[
        int, typer.Option(help="Number of processes that listen and merge the shards' results.", min=1)
    ] = 1,
    port: Annotated[int, typer.Option(help="HTTP port; 0 chooses a free one.", min=0, max=65535)] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    name: HostNames = None,
    address: Address = None,
    changes: Annotated[
        bool, typer.Option(help="Open the index for changes, and accept POST /add, /update and /remove.")
    ] = False,
) -> None:
    """Serve an index over HTTP until interrupted; a new version in its folder replaces it without downtime.

    Ray Serve serves an index built with --shards, with one process per replica of a shard; this process serves an index
    without shards.
    POST /search with {"codes": [BASE64, ...], "k": 10}. If a shard does not answer, the status is 503, or, with
    "partial": true, the reply names the missing shards.
    If the environment variable DEEPHASH_TOKEN is set, requests must contain it as Authorization: Bearer TOKEN.
    """
    from deephash.indexes.sharded_index import IndexRelease, is_sharded
    from deephash.validation import InvalidInputError
    from deephash.web.http_service.host_names import is_loopback

    token = os.environ.get(TOKEN)
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise InvalidInputError(f"{TOKEN} is empty or has white space or signs beyond ASCII; set another, or unset it.")

    def ready(url: str, release: IndexRelease) -> None:
        shards = f"{len(release.shards)} shard{'s' if len(release.shards) > 1 else ''}"
        typer.echo(f"{url} serves {release.size:,} codes in {shards}: {release.name}")

    if is_sharded(index):
        from deephash.cluster.shard_service import serve_shards

        if changes or token is not None:
            raise InvalidInputError(
                f"{index} is in shards, whose service takes no changes and no token; leave out --changes and {TOKEN}, "
                "change it by deephash index add, update and remove, and publish the changes by deephash index compact."
            )
        serve_shards(index, host, port, ready, replicas, fronts, address, name or ())
        return
    if replicas > 1 or fronts > 1 or address is not None:
        raise InvalidInputError(
            f"{index} has no shards; --replicas, --fronts and --address need an index built with --shards."
        )
    from deephash.cluster.index_service import serve_index

    if changes and token is None and not is_loopback(host):
        raise InvalidInputError(
            f"--changes on {host} lets everyone change the index; set {TOKEN}, or leave out --host."
        )
    serve_index(index, host, port, ready, name or (), changes=changes, token=token)
