"""Compilation of the CPU kernels ahead of their first use."""

from pathlib import Path

import torch

from deephash.functional.sign_flips import sign_flips
from deephash.indexes.late_interaction import LateInteraction
from deephash.indexes.mih import MIH
from deephash.indexes.prefix import Prefix
from deephash.ranking.distance import Asymmetric, Distance, Hamming, Manhattan
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_search import search_nearest
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels
from deephash.validation import InvalidInputError

QUERIES = (1, 8)
"""Numbers of queries: few are compared in another layout than many."""

BITS = (64, 512)
"""Code lengths whose distances fit in one byte and in two."""

ITQ_BITS = (16, 24, 32, 48, 64, 96, 128)
"""Code lengths of ITQ; its kernel is compiled for each length."""


def compile_kernels() -> Path:
    """Compile, or load, the kernels of ranking by each distance, of the indexes that have their own, and of ITQ.

    Each is called on a few random codes. Kernels of some fits, such as FastHash's, are compiled by the first fit.

    Returns:
        The folder of the ranking kernels.

    Raises:
        InvalidInputError: no folder is writable, so that nothing would remain.
    """
    folder = getattr(search_nearest, "stats").cache_path  # noqa: B009 - an attribute of the compiled form
    if folder is None:
        raise InvalidInputError(
            "no folder for compiled kernels is writable; set NUMBA_CACHE_DIR to one that is, here and where you run."
        )
    generator = torch.Generator().manual_seed(0)
    for bits in BITS:
        database = draw_codes(70, bits, generator)
        for queries in QUERIES:
            codes = draw_codes(queries, bits, generator)
            weights = torch.ones(queries, bits, dtype=torch.int32)
            for distance in (Hamming(bits), Manhattan(bits // 2, 2), Asymmetric(bits, weights)):
                rank_once(codes, database, distance)
        index = MIH(database, bits)
        index.search(draw_codes(2, bits, generator), 3)
        index.add(draw_codes(2, bits, generator))
        index.compact()
        two_stage = Prefix(database, bits)
        two_stage.search(draw_codes(2, bits, generator), 3)
        two_stage.within(draw_codes(2, bits, generator), 3)
        LateInteraction(database, [0, 30, 70]).search(draw_codes(2, bits, generator), [0, 2], 1)
    for bits in ITQ_BITS:
        with sign_flips(torch.randn(64, bits, generator=generator)) as flips:
            flips(torch.eye(bits, dtype=torch.float64))
    return Path(folder)


def draw_codes(n: int, bits: int, generator: torch.Generator) -> torch.Tensor:
    """Draw random packed codes, uint8 (n, b / 8)."""
    return torch.randint(0, 256, (n, bits // 8), dtype=torch.uint8, generator=generator)


def rank_once(codes: torch.Tensor, database: torch.Tensor, distance: Distance) -> None:
    """Search, and rank by each form of relevance."""
    engine, queries, items = NumbaEngine(1), len(codes), len(database)
    label = SharedLabel(torch.zeros(queries, dtype=torch.int64), torch.zeros(items, dtype=torch.int64))
    labels = SharedLabels(torch.ones(queries, 2, dtype=torch.bool), torch.ones(items, 2, dtype=torch.bool))
    neighbours = Neighbours(torch.arange(queries + 1), torch.zeros(queries, dtype=torch.int64), items)
    for relevance in (label, labels, neighbours):
        engine.rank(codes, database, distance, relevance)
        engine.relevant_ranks(codes, database, distance, relevance)
    engine.search(codes, database, distance, 5)
