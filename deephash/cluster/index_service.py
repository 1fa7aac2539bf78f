"""Serve a saved index, whole or in shards, from this process."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deephash.cluster.search_application import (
    Answer,
    SearchApplication,
    ServedRelease,
    create_server,
    refresh_release,
)
from deephash.indexes.sharded_index import IndexRelease, OpenRelease, read_current_release
from deephash.web.http_service.host_names import list_host_names
from deephash.web.listening import open_listener

# Number of searches at a time. A search uses all cores, so the second one waits, and starts as soon as the first ends.
AT_ONCE = 2


class LocalRelease(ServedRelease):
    """A release in the memory of this process.

    Args:
        release: the release to load.
    """

    def __init__(self, release: IndexRelease) -> None:
        super().__init__(release)
        self.index = OpenRelease(release)

    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉)."""
        return Answer(self.release, await asyncio.to_thread(self.index.search, torch.from_numpy(codes), k))


async def refresh_index(folder: Path, served: ServedRelease | None) -> ServedRelease:
    """Return the served index, or the one that has replaced it in the folder."""
    return await refresh_release(served, partial(read_current_release, folder), LocalRelease)


def serve_index(
    folder: Path, host: str, port: int, ready: Callable[[str, IndexRelease], None], names: Sequence[str] = ()
) -> None:
    """Serve an index, and each index that replaces it in the folder, until interrupted.

    Args:
        folder: folder of a saved index, whole or in shards.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        ready: called with the address and each release as soon as it is served.
        names: additional host names that requests may use.

    Raises:
        InvalidInputError: the folder contains no index, the address is not available, or uvicorn is not installed.
    """

    async def refresh(served: ServedRelease | None) -> ServedRelease:
        newer = await refresh_index(folder, served)
        if newer is not served:
            ready(f"http://{host}:{opened.getsockname()[1]}", newer.release)
        return newer

    application = SearchApplication(refresh, AT_ONCE, list_host_names(host, names))
    server = create_server(application)

    async def serve() -> None:
        await application.look()
        watching = asyncio.create_task(application.watch())
        await server.serve([opened])
        watching.cancel()

    with (
        open_listener(host, port) as opened,
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(serve())
