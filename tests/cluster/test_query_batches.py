"""Queries that wait at the same time are searched together, and each caller receives its own results."""

import asyncio
from dataclasses import dataclass

import numpy as np

from deephash.cluster.query_batches import MAX_QUERIES_TOGETHER, QueryBatches


@dataclass
class Doubled:
    """Twice the codes, as stands for what was found."""

    values: list

    def cut(self, start, stop):
        return Doubled(self.values[start:stop])


class Search:
    """Records what it is asked, and answers once it is let."""

    def __init__(self, is_let=True):
        self.asked, self.most_at_once, self.running = [], 0, 0
        self.let = asyncio.Event()
        if is_let:
            self.let.set()

    async def __call__(self, target, codes, k):
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.asked.append((target, len(codes), k))
        await self.let.wait()
        self.running -= 1
        if target == "broken":
            raise ValueError("broken")
        return Doubled((2 * codes[:, 0].astype(int)).tolist())


def codes(*values):
    return np.array(values, np.uint8)[:, None]


def test_those_who_wait_go_together_and_get_their_own():
    async def scene():
        search = Search(is_let=False)
        batches = QueryBatches(search, 1)
        requests = [asyncio.create_task(batches.search("a", codes(row, row + 100), 3)) for row in range(9)]
        requests.append(asyncio.create_task(batches.search("a", codes(50), 4)))
        requests.append(asyncio.create_task(batches.search("b", codes(60), 3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert search.asked == [("a", 2, 3)]  # The first waits for nobody.
        requests[4].cancel()
        search.let.set()
        found = await asyncio.gather(*requests, return_exceptions=True)
        assert isinstance(found.pop(4), asyncio.CancelledError)
        rows = [row for row in range(9) if row != 4]
        assert [one.values for one in found] == [[2 * row, 2 * row + 200] for row in rows] + [[100], [120]]
        # Queries of different releases or k are searched separately.
        assert search.asked == [("a", 2, 3), ("a", 16, 3), ("a", 1, 4), ("b", 1, 3)]
        assert search.most_at_once == 1

    asyncio.run(scene())


def test_searches_at_once_and_their_size_are_bounded():
    async def scene():
        search = Search(is_let=False)
        batches = QueryBatches(search, 2)
        sizes = [1, 1, MAX_QUERIES_TOGETHER, 5, MAX_QUERIES_TOGETHER + 1, 2, 3]
        asked = asyncio.gather(*(batches.search("a", codes(*[size % 256] * size), 1) for size in sizes))
        await asyncio.sleep(0.01)
        search.let.set()
        found = await asked
        assert [one.values for one in found] == [[2 * (size % 256)] * size for size in sizes]
        assert search.most_at_once == 2
        assert [size for _, size, _ in search.asked] == [1, 1, MAX_QUERIES_TOGETHER, 5, MAX_QUERIES_TOGETHER + 1, 5]

    asyncio.run(scene())


def test_a_search_that_fails_is_told_to_all_and_ends_nothing():
    async def scene():
        batches = QueryBatches(Search(), 1)
        found = await asyncio.gather(
            *(batches.search("broken", codes(row), 1) for row in range(3)), return_exceptions=True
        )
        assert [str(error) for error in found] == ["broken"] * 3
        assert (await batches.search("a", codes(7), 1)).values == [14]

    asyncio.run(scene())
