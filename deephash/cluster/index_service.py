"""A saved index, whole or in shards, as a service of this process alone."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from deephash.cluster.search_application import Answer, SearchApplication, ServedRelease, http_server
from deephash.indexes.sharded_index import IndexRelease, OpenRelease, current_release
from deephash.web.http_service.host_names import served_names
from deephash.web.listening import listening

# The second waits for the first to end, so that no time passes between two.
AT_ONCE = 2


class LocalRelease(ServedRelease):
    """A release in this process's memory.

    Args:
        index: loaded.
    """

    def __init__(self, index: OpenRelease) -> None:
        super().__init__(index.release)
        self.index = index

    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """The k nearest of packed codes uint8 (q, ⌈b/8⌉)."""
        return Answer(self.release, await asyncio.to_thread(self.index.search, torch.from_numpy(codes), k))


async def refreshed(folder: Path, served: ServedRelease | None) -> ServedRelease:
    """What is served, or the index that has taken its place in the folder.

    Raises:
        InvalidInputError: no index there, or a damaged one.
    """
    release = await asyncio.to_thread(current_release, folder)
    if served is not None and release.name == served.release.name:
        return served
    return LocalRelease(await asyncio.to_thread(OpenRelease, release))


def serve_index(
    folder: Path, host: str, port: int, ready: Callable[[str, IndexRelease], None], names: Sequence[str] = ()
) -> None:
    """Serve an index, and each that takes its place in the folder, until interrupted.

    Args:
        folder: of a saved index, whole or in shards.
        host: address to listen on.
        port: to listen on; 0 takes one that is free.
        ready: is told the address and what is served, as soon as it is.
        names: further host names by which the service may be asked for.

    Raises:
        InvalidInputError: no index, an address that cannot be listened on, or uvicorn is not installed.
    """

    async def refresh(served: ServedRelease | None) -> ServedRelease:
        newer = await refreshed(folder, served)
        if newer is not served:
            ready(f"http://{host}:{opened.getsockname()[1]}", newer.release)
        return newer

    application = SearchApplication(refresh, AT_ONCE, served_names(host, names))
    server = http_server(application)

    async def serve() -> None:
        await application.look()
        watching = asyncio.create_task(application.watch())
        await server.serve([opened])
        watching.cancel()

    with (
        listening(host, port) as opened,
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(serve())
