"""Search in two stages: candidates by Hamming distance from any index, then the nearest of them by finer scores."""

from typing import final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import convert_numpy_numbers
from deephash.indexes.base import Index
from deephash.indexes.neighbour_lists import NOT_FOUND
from deephash.indexes.rescoring import Rescoring
from deephash.validation import InvalidInputError, check_count, to_floating

# Memory for scoring a block of queries.
BLOCK_BYTES = 64 * 2**20


@final
class TwoStage:
    """Search that takes `factor` · k candidates from an index, and orders them by their scores.

    Args:
        index: an index of any kind.
        rescoring: scores of the same items in the same order: `FloatVectors`, `Int8Vectors` or `Margins`.
        factor: candidates for each requested neighbour; higher values find more and take longer.

    Raises:
        InvalidInputError: the factor is below 1, or the numbers of items differ.

    Examples:
        >>> from deephash.indexes.flat import Flat
        >>> from deephash.indexes.rescoring import FloatVectors
        >>> vectors = torch.tensor([[0.1], [0.9], [0.8], [-1.0]])
        >>> index = Flat((vectors > 0).to(torch.uint8), 1)
        >>> query = torch.tensor([[0.7]])
        >>> TwoStage(index, FloatVectors(vectors)).search((query > 0).to(torch.uint8), query, k=2)[1]
        tensor([[2, 1]])
    """

    @convert_numpy_numbers
    def __init__(self, index: Index, rescoring: Rescoring, factor: int = 10) -> None:
        check_count(factor, "factor")
        check_same_items(rescoring, index.next_id)
        self.index, self.rescoring, self.factor = index, rescoring, factor

    @convert_numpy_numbers
    def search(self, codes: Tensor | ArrayLike, queries: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """Find the k nearest of the candidates, nearest first; ties are ordered by id.

        A candidate that cannot be compared, for example because its vector has NaN or infinity, comes last, with an
        infinite distance.

        Args:
            codes: the queries' packed codes uint8 (q, ⌈b/8⌉).
            queries: vectors (q, d) or margins (q, b) of the queries, as the rescoring expects them.
            k: number of neighbours, 1 to N.

        Returns:
            Scores float32 or float64 and ids int64, (q, k). If an approximate index finds fewer than k, the last ids
            are -1, and their distances are infinite.

        Raises:
            InvalidInputError: the queries do not fit the index or the rescoring, or the numbers of queries and codes
                differ.
        """
        check_same_items(self.rescoring, self.index.next_id)
        codes = as_codes(codes, "query codes")
        queries = to_floating(queries, "queries")
        self.rescoring.check(codes, queries)
        if len(codes) != len(queries):
            raise InvalidInputError(
                f"there are {len(codes)} query codes and {len(queries)} queries; give one for each."
            )
        check_count(k, "k")
        # The index raises the error for a k above its size.
        depth = max(k, min(k * self.factor, self.index.size))
        rows = max(1, BLOCK_BYTES // (depth * self.rescoring.item_bytes))
        blocks = [
            nearest_candidates(self.rescoring, code, query, self.index.search(code, depth)[1], k)
            for code, query in zip(torch.split(codes.cpu(), rows), torch.split(queries.cpu(), rows), strict=True)
        ]
        scores, ids = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return scores, ids


def nearest_candidates(
    rescoring: Rescoring, codes: Tensor, queries: Tensor, ids: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Select the k nearest of each query's candidates, nearest first; ties are ordered by id.

    Args:
        rescoring: scores of the database.
        codes: the queries' packed codes uint8 (q, ⌈b/8⌉).
        queries: vectors or margins of the queries, as the rescoring expects them.
        ids: int64 (q, c), rows of the database in any order, -1 for a candidate that was not found; c at least k.
        k: number of neighbours.

    Returns:
        Scores and ids, (q, k); candidates that were not found are infinitely far.
    """
    # Missing candidates come last, so that they stay behind candidates that are infinitely far.
    ids = ids.masked_fill(ids == NOT_FOUND, torch.iinfo(torch.int64).max).sort(1).values
    missing = ids == torch.iinfo(torch.int64).max
    ids = ids.masked_fill(missing, NOT_FOUND)
    if not len(codes):
        return torch.empty(0, k), ids[:, :k]
    away = -torch.inf if rescoring.more_is_nearer else torch.inf
    scores = rescoring.scores(codes, queries, ids.clamp_min(0))
    scores = scores.masked_fill(missing | scores.isnan(), away)
    order = scores.argsort(dim=1, stable=True, descending=rescoring.more_is_nearer)[:, :k]
    return scores.gather(1, order), ids.gather(1, order)


def check_same_items(rescoring: Rescoring, size: int) -> None:
    """Raise an error unless the rescoring has as many items as the index."""
    if rescoring.size != size:
        raise InvalidInputError(
            f"the index holds {size} items and there are {rescoring.size} to score; give the same items to both."
        )
