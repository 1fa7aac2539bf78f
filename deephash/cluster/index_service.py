"""Serve a saved index, whole or in shards, from this process."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deephash.cluster.change_request import change_index
from deephash.cluster.search_application import (
    Answer,
    SearchApplication,
    ServedRelease,
    create_server,
    refresh_release,
)
from deephash.indexes.base import Index
from deephash.indexes.open_index import ChangeLog, open_index
from deephash.indexes.row_filter import Where
from deephash.indexes.sharded_index import IndexRelease, OpenRelease, read_current_release
from deephash.validation import InvalidInputError
from deephash.web.http_service.host_names import list_host_names
from deephash.web.listening import open_listener

# Number of searches at a time. A search uses all cores, so the second one waits, and starts as soon as the first ends.
AT_ONCE = 2


class LocalRelease(ServedRelease):
    """A release in the memory of this process.

    Args:
        release: the release to load.
        index: its index, if it is loaded already.
    """

    def __init__(self, release: IndexRelease, index: Index | None = None) -> None:
        self.index = OpenRelease(release, index)
        super().__init__(self.index.release)

    async def search(self, codes: np.ndarray, k: int) -> Answer:
        """Find the k nearest items of packed codes uint8 (q, ⌈b/8⌉)."""
        return await self.search_where(codes, k, None)

    async def search_where(self, codes: np.ndarray, k: int, where: Where | None) -> Answer:
        """Find the k nearest items among those that a filter selects.

        Raises:
            InvalidInputError: an invalid filter, or a database, whose conditions can read other tables.
        """
        if isinstance(where, str) and any(shard.index.keeps_columns for shard in self.index.shards):
            raise InvalidInputError("conditions on a database are not served; give a list of names.")
        found = await asyncio.to_thread(self.index.search, torch.from_numpy(codes), k, where)
        return Answer(self.release, found)

    def follow(self, release: IndexRelease) -> bool:
        """Carry out the changes that another process has logged; False if the index was replaced."""
        followed = self.index.follow(release)
        self.release = self.index.release
        return followed


class ChangingRelease(LocalRelease):
    """An index that this process has open for changes.

    Args:
        folder: folder of the index.

    Raises:
        InvalidInputError: an error of `open_index`.
    """

    def __init__(self, folder: Path) -> None:
        index = open_index(folder)
        super().__init__(read_current_release(folder), index)
        self.writing = threading.Lock()
        # Searches go on while the disk flushes a change.
        index.guard = self.index.shards[0].lock

    async def change(self, operation: str, request: Any) -> dict[str, Any]:
        """Carry out a change; see `deephash.cluster.change_request`."""
        return await asyncio.to_thread(self._change, operation, request)

    def _change(self, operation: str, request: Any) -> dict[str, Any]:
        with self.writing:
            index = self.index.shards[0].index
            done = change_index(index, operation, request)
            end = 0
            if isinstance(index.journal, ChangeLog):
                self.index.generation, end = index.journal.generation, index.journal.end.place
            self.index.count(f"{self.index.generation}+{end}")
            self.release = self.index.release
        return {**done, "size": self.index.size, "release": self.release.name}

    def close(self) -> None:
        """Let others write to the folder."""
        self.index.shards[0].index.close()


async def refresh_index(folder: Path, served: ServedRelease | None) -> ServedRelease:
    """Return the served index, with the changes in its folder, or the one that has replaced it."""
    if isinstance(served, ChangingRelease):
        return served  # No other process can write to its folder.
    release = await asyncio.to_thread(read_current_release, folder)
    if (
        isinstance(served, LocalRelease)
        and release.name != served.release.name
        and await asyncio.to_thread(served.follow, release)
    ):
        return served
    return await refresh_release(served, partial(read_current_release, folder), LocalRelease)


def serve_index(
    folder: Path,
    host: str,
    port: int,
    ready: Callable[[str, IndexRelease], None],
    names: Sequence[str] = (),
    *,
    changes: bool = False,
    token: str | None = None,
) -> None:
    """Serve an index, and each index that replaces it in the folder, until interrupted.

    Args:
        folder: folder of a saved index, whole or in shards.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        ready: called with the address and each release as soon as it is served.
        names: additional host names that requests may use.
        changes: whether to open the index for changes, and to accept them.
        token: token that requests must contain; None accepts all.

    Raises:
        InvalidInputError: the folder contains no index, the address is not available, or uvicorn is not installed.
    """

    async def refresh(served: ServedRelease | None) -> ServedRelease:
        if changes and served is None:
            newer: ServedRelease = await asyncio.to_thread(ChangingRelease, folder)
        else:
            newer = await refresh_index(folder, served)
        if newer is not served:
            ready(f"http://{host}:{opened.getsockname()[1]}", newer.release)
        return newer

    application = SearchApplication(refresh, AT_ONCE, list_host_names(host, names), token)
    server = create_server(application)

    async def serve() -> None:
        await application.look()
        watching = asyncio.create_task(application.watch())
        await server.serve([opened])
        watching.cancel()
        if changes and application.served is not None:
            application.served.close()

    with (
        open_listener(host, port) as opened,
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner,
    ):
        runner.run(serve())
