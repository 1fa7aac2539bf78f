"""Rank queries against a database in shards: each worker counts distances to its rows, and the counts are added."""

import torch

from deephash.code_files.code_shards import CodeShards, ShardQueries
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.base import RankingEngine
from deephash.ranking.counts import DistanceCounts
from deephash.ranking.relevance import move_relevance, select_queries

# Queries to rank in one call, as in a run.
RANKED_QUERIES = 2048


def rank_rows(
    queries: ShardQueries,
    shards: CodeShards,
    rows: range,
    device: torch.device | str = "cpu",
    engine: RankingEngine | None = None,
) -> DistanceCounts:
    """Count distances from each query to some rows of the database.

    Args:
        queries: queries with labels or neighbours.
        shards: the database.
        rows: rows to rank.
        device: device to rank on.
        engine: ranking engine; None uses the fastest for the device.

    Returns:
        Counts int64 (q, D + 1) on the CPU; zeros if there are no rows.

    Raises:
        InvalidInputError: shards are damaged, or their labels have another form than the labels of the queries.
    """
    engine = AutoEngine() if engine is None else engine
    codes = queries.codes.to(device)
    table = torch.zeros(len(codes), shards.distance.maximum + 1, dtype=torch.int64, device=device)
    counts = DistanceCounts(table, table.clone())
    for block in shards.blocks(rows):
        relevance = move_relevance(queries.relevance(block), codes.device)
        items = block.codes.to(device)
        for start in range(0, len(codes), RANKED_QUERIES):
            some = slice(start, min(start + RANKED_QUERIES, len(codes)))
            found = engine.rank(codes[some], items, shards.distance, select_queries(relevance, some.start, some.stop))
            counts.total[some] += found.total
            counts.relevant[some] += found.relevant
    return DistanceCounts(counts.total.cpu(), counts.relevant.cpu())
