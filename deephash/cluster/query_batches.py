"""Queries that wait at the same time, put into one search."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

# What waits goes into one search up to so many queries; a request of more is searched by itself.
MAX_QUERIES_TOGETHER = 256


class Cuttable(Protocol):
    """What was found for some queries, of which the part of any of them can be cut out."""

    def cut(self, start: int, stop: int) -> Self:
        """The part of the queries from start to stop."""


Target = TypeVar("Target", bound=Hashable)
Found = TypeVar("Found", bound=Cuttable)


@dataclass(frozen=True)
class Waiting(Generic[Found]):
    """A request that waits for its search.

    Args:
        codes: packed uint8 (q, ⌈b/8⌉).
        answer: what will be found for it.
    """

    codes: np.ndarray
    answer: asyncio.Future[Found]


class QueryBatches(Generic[Target, Found]):
    """Runs few searches at once, each for all requests that came while the ones before it ran.

    A message to another process costs more than a small scan, and a scan takes eight queries along nearly for the time
    of one. A request that finds nothing running starts at once: nobody waits for company.

    Args:
        search: target, packed codes uint8 (q, ⌈b/8⌉) and k → what is found.
        at_once: searches that run at the same time.
    """

    def __init__(self, search: Callable[[Target, np.ndarray, int], Awaitable[Found]], at_once: int) -> None:
        self.search_together = search
        self.at_once = at_once
        # In the order of their first request.
        self.waiting: dict[tuple[Target, int], deque[Waiting[Found]]] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def search(self, target: Target, codes: np.ndarray, k: int) -> Found:
        """The k nearest in a target of packed codes uint8 (q, ⌈b/8⌉).

        Raises:
            Exception: whatever the search raised, to all whose queries it held.
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
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._start()

    def _take(self, target: Target, k: int) -> list[Waiting[Found]]:
        """The first requests that wait for a target, at least one; what is left goes behind the others."""
        waiting = self.waiting.pop((target, k))
        taken = [waiting.popleft()]
        queries = len(taken[0].codes)
        while waiting and queries + len(waiting[0].codes) <= MAX_QUERIES_TOGETHER:
            taken.append(waiting.popleft())
            queries += len(taken[-1].codes)
        if waiting:
            self.waiting[target, k] = waiting
        return taken

    async def _run(self, target: Target, k: int, taken: list[Waiting[Found]]) -> None:
        try:
            found = await self.search_together(target, np.concatenate([one.codes for one in taken]), k)
        except Exception as error:
            for one in taken:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        start = 0
        for one in taken:
            if not one.answer.done():
                one.answer.set_result(found.cut(start, start + len(one.codes)))
            start += len(one.codes)
