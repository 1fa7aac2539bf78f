"""What a query finds in a run's database: items by distance, ties told, relevance where it is known."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.ranking.relevance import Relevance, is_relevant
from deephash.validation import check_choice
from deephash.web.demo.query import Query
from deephash.web.demo.served_run import ServedRun


@final
@dataclass(frozen=True)
class FoundItem:
    """An item that a query found.

    Args:
        row: in the data set.
        distance: of its code from the query's.
        relevant: whether it is relevant; None where that is not known.
        bits: of its code, as 0 and 1.
        is_query: whether it is the query itself.
    """

    row: int
    distance: int
    relevant: bool | None
    bits: str
    is_query: bool


@final
@dataclass(frozen=True)
class Tie:
    """All items at one distance, of which the answer shows some; their order says nothing.

    Args:
        distance: of their codes from the query's.
        items: how many there are.
        relevant: how many of them are relevant; None where that is not known.
        shown: how many the answer shows.
    """

    distance: int
    items: int
    relevant: int | None
    shown: int


@final
@dataclass(frozen=True)
class Answer:
    """The nearest items of a query.

    Args:
        searched: the view that was searched; the only one has no name.
        bits: of the query's code, as 0 and 1.
        margins: each bit's distance from its threshold; None where bits have none of their own.
        found: nearest first; among equals the first of the database.
        ties: the distances of what was found, rising.
        size: number of items searched.
        relevant: number of relevant ones among them; None where that is not known.
    """

    searched: str
    bits: str
    margins: list[float] | None
    found: list[FoundItem]
    ties: list[Tie]
    size: int
    relevant: int | None


def answer(run: ServedRun, query: Query, searched: str, k: int) -> Answer:
    """The k nearest items of a view, or all where there are fewer.

    Args:
        run: that is asked.
        query: coded by the same run.
        searched: the view whose codes are searched.
        k: number of items.

    Raises:
        InvalidInputError: no such view.
    """
    check_choice(searched, run.searched, "searched")
    codes = run.searched[searched]
    distances, rows = codes.nearest(query.code, k)
    relevance = relevance_to(run, query, codes.positions)
    counts = codes.counts(query.code, relevance)
    known = None if relevance is None else is_relevant(relevance, rows[None])[0].tolist()
    items = run.database.ids[codes.positions[rows]].tolist()
    bits = bit_texts(codes.codes[rows], codes.distance.code_bits)
    found = [
        FoundItem(item, distance, None if known is None else known[place], bits[place], item == query.row)
        for place, (item, distance) in enumerate(zip(items, distances.tolist(), strict=True))
    ]
    ties = [
        Tie(
            distance,
            int(counts.total[0, distance]),
            None if relevance is None else int(counts.relevant[0, distance]),
            int((distances == distance).sum()),
        )
        for distance in sorted(set(distances.tolist()))
    ]
    return Answer(
        searched,
        bit_texts(query.code, codes.distance.code_bits)[0],
        None if query.margins is None else query.margins.tolist(),
        found,
        ties,
        len(codes),
        None if relevance is None else int(counts.relevant.sum()),
    )


def relevance_to(run: ServedRun, query: Query, positions: Tensor) -> Relevance | None:
    """Which searched items are relevant to a query; None where it is no item of the data set, or there is no truth.

    Args:
        run: that is asked.
        query: coded by the same run.
        positions: int64 (m,), places in the database of the items searched.
    """
    if query.row is None:
        return None
    asking = run.items.select(torch.tensor([query.row]).numpy())
    whole = len(positions) == len(run.database)
    return run.truth.relevance(asking, run.database if whole else run.database.rows(positions))


def bit_texts(codes: Tensor, bits: int) -> list[str]:
    """Packed codes (n, ⌈b/8⌉) as texts of 0 and 1."""
    return ["".join(map(str, row)) for row in unpack(codes, bits).int().tolist()]
