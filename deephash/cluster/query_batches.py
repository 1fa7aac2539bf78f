"""Combine queries that wait at the same time into one search."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

# Largest number of queries to combine; a request with more is searched by itself.
MAX_QUERIES_TOGETHER = 256


class Cuttable(Protocol):
    """An answer to several queries, from which the answer to any consecutive ones can be cut."""

    def cut(self, start: int, stop: int) -> Self:
        """Return the answer to the queries from start to stop."""


Target = TypeVar("Target", bound=Hashable)
Found = TypeVar("Found", bound=Cuttable)


@dataclass(frozen=True)
class Waiting(Generic[Found]):
    """A request that waits for its search.

    Args:
        codes: packed uint8 (q, ⌈b/8⌉).
        answer: future of its answer.
    """

    codes: np.ndarray
    answer: asyncio.Future[Found]


class QueryBatches(Generic[Target, Found]):
    """Queue that runs few searches at once, each for all requests that arrived while earlier searches ran.

    A message to another process costs more than a small scan, and a scan for eight queries takes little longer than a
    scan for one. A request starts at once if fewer than `at_once` searches run.

    Args:
        search: function of a target, packed codes uint8 (q, ⌈b/8⌉) and k; it returns the answer.
        at_once: number of searches that run at the same time.
    """

    def __init__(self, search: Callable[[Target, np.ndarray, int], Awaitable[Found]], at_once: int) -> None:
        self.search_together = search
        self.at_once = at_once
        # In the order of their first request.
        self.waiting: dict[tuple[Target, int], deque[Waiting[Found]]] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def search(self, target: Target, codes: np.ndarray, k: int) -> Found:
        """Find, in a target, the k nearest items of packed codes uint8 (q, ⌈b/8⌉).

        Raises:
            Exception: an exception of the search, raised to all requests that it combined.
        """
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault((target, k), deque()).append(Waiting(codes, answer))
        self._start()
        return await answer

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.at_once:
            target, k = next(iter(self.waiting))
            task = asyncio.create_task(self._run(target, k, self._take(target, k)))
            self.running.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._start()

    def _take(self, target: Target, k: int) -> list[Waiting[Found]]:
        """Take the first requests of a target, at least one; the rest go to the end of the queue."""
        waiting = self.waiting.pop((target, k))
        taken = [waiting.popleft()]
        queries = len(taken[0].codes)
        while waiting and queries + len(waiting[0].codes) <= MAX_QUERIES_TOGETHER:
            taken.append(waiting.popleft())
            queries += len(taken[-1].codes)
        if waiting:
            self.waiting[target, k] = waiting
        return taken

    async def _run(self, target: Target, k: int, requests: list[Waiting[Found]]) -> None:
        try:
            found = await self.search_together(target, np.concatenate([request.codes for request in requests]), k)
        except Exception as error:
            for request in requests:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        start = 0
        for request in requests:
            if not request.answer.done():
                request.answer.set_result(found.cut(start, start + len(request.codes)))
            start += len(request.codes)
