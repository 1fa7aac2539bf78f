"""Neighbours of a query in the database of a run, with ties and relevance."""

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
    """A neighbour of a query.

    Args:
        row: its row in the data set.
        distance: distance of its code from the query's code.
        relevant: whether it is relevant; None if unknown.
        bits: its code as a text of 0 and 1.
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
    """The items at one distance, some of which the answer shows. Their order carries no information.

    Args:
        distance: distance of their codes from the query's code.
        items: number of items.
        relevant: number of relevant items; None if unknown.
        shown: number of items in the answer.
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
        searched: the searched view; empty for runs of one view.
        bits: code of the query as a text of 0 and 1.
        margins: signed distance of each bit's projection from its threshold; None if bits have no thresholds of their
            own.
        found: nearest items first; ties in database order.
        ties: one tie for each distance of the items found, ascending.
        size: number of items searched.
        relevant: number of relevant items among them; None if unknown.
    """

    searched: str
    bits: str
    margins: list[float] | None
    found: list[FoundItem]
    ties: list[Tie]
    size: int
    relevant: int | None


def find_answer(run: ServedRun, query: Query, searched: str, k: int) -> Answer:
    """Find the k nearest items of a view, or all if there are fewer.

    Args:
        run: run to search.
        query: query encoded by the same run.
        searched: view to search.
        k: number of items.

    Raises:
        InvalidInputError: the run has no such view.
    """
    check_choice(searched, run.searched, "searched")
    codes = run.searched[searched]
    distances, rows = codes.search(query.code, k)
    relevance = find_relevance(run, query, codes.positions)
    counts = codes.count(query.code, relevance)
    relevant = None if relevance is None else is_relevant(relevance, rows[None])[0].tolist()
    items = run.database.ids[codes.positions[rows]].tolist()
    bits = format_bits(codes.codes[rows], codes.distance.code_bits)
    found = [
        FoundItem(item, distance, None if relevant is None else relevant[place], bits[place], item == query.row)
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
        format_bits(query.code, codes.distance.code_bits)[0],
        None if query.margins is None else query.margins.tolist(),
        found,
        ties,
        len(codes),
        None if relevance is None else int(counts.relevant.sum()),
    )


def find_relevance(run: ServedRun, query: Query, positions: Tensor) -> Relevance | None:
    """Return the relevance of searched items to a query; None if the query is not an item of the data set.

    Args:
        run: run to search.
        query: query encoded by the same run.
        positions: int64 (m,), places of the searched items in the database.
    """
    if query.row is None:
        return None
    asking = run.items.select(torch.tensor([query.row]).numpy())
    database = run.database if len(positions) == len(run.database) else run.database.rows(positions)
    return run.truth.relevance(asking, database)


def format_bits(codes: Tensor, bits: int) -> list[str]:
    """Format packed codes (n, ⌈b/8⌉) as texts of 0 and 1."""
    return ["".join(map(str, row)) for row in unpack(codes, bits).int().tolist()]
