"""A scan of codes by queries in float, through the vectors that a decoder reads from the codes."""

from typing import final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes
from deephash.compression.decoded_vectors import MEASURES
from deephash.compression.linear_decoder import TINY, LinearDecoder, signs
from deephash.conversion import plain_numbers
from deephash.functional.safe_scale import power_of_two
from deephash.indexes.rescoring import Rescoring
from deephash.indexes.two_stage import BLOCK_BYTES, check_same_items, nearest_candidates
from deephash.validation import InvalidInputError, as_features, check_choice, check_count

# Items and queries that are compared at a time: 8 MB of products.
BLOCK_ITEMS, BLOCK_QUERIES = 8192, 256


@final
class AsymmetricScan:
    """Compares every code with the query itself, not with its code: more of the order is kept, at the same memory.

    A scan is a matrix product: some tens of times as long as one by Hamming distance, which `TwoStage` with
    `DecodedVectors` has for its first stage.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        decoder: of b bits, fitted on codes of the same kind.
        rescoring: what puts `factor` times as many candidates as are wanted in order, as `FloatVectors` of the same
            items, its queries being vectors too; None for the order by the codes.
        factor: candidates for each neighbour that is wanted, where there is a rescoring.
        measure: cosine or inner_product, as of `DecodedVectors`.
        keep_lengths: for the cosine, whether the lengths of decoded vectors are kept, in one byte an item, or computed
            in each search, which costs as much as b further queries.

    Raises:
        InvalidInputError: codes of another length, or none; a factor below 1; a rescoring of another number of items.

    Example:
        >>> from deephash.codes import pack
        >>> vectors = torch.tensor([[1.0, 0.1], [0.1, 1.0], [-1.0, 0.1]])
        >>> codes = pack(vectors >= 0)
        >>> AsymmetricScan(codes, LinearDecoder.fit(codes, vectors, bits=2)).search(vectors[2:], k=1)[1]
        tensor([[2]])
    """

    @plain_numbers
    def __init__(
        self,
        codes: Tensor | ArrayLike,
        decoder: LinearDecoder,
        rescoring: Rescoring | None = None,
        factor: int = 10,
        measure: str = "cosine",
        keep_lengths: bool = True,
    ) -> None:
        codes = as_codes(codes)
        decoder.check_codes(codes)
        if len(codes) == 0:
            raise InvalidInputError("codes have 0 rows; expected at least one to search.")
        check_count(factor, "factor")
        check_choice(measure, MEASURES, "measure")
        self.codes, self.decoder = codes.contiguous(), decoder
        self.size = len(codes)
        if rescoring is not None:
            check_same_items(rescoring, self.size)
        self.rescoring, self.factor, self.measure = rescoring, factor, measure
        self._near_one, self._power = decoder.near_one()
        self._lengths = ByteLengths(self.codes, self._near_one) if keep_lengths and measure == "cosine" else None

    @property
    def item_bytes(self) -> int:
        """Bytes that are kept for each item, beside those of the rescoring."""
        return self.codes.shape[1] + (self._lengths is not None)

    @plain_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """The k nearest items, nearest first.

        Args:
            queries: floating (q, d).
            k: number of neighbours, 1 to N.

        Returns:
            Scores float32 and ids int64, (q, k): cosines of the queries with the decoded vectors, or inner products, or
            what the rescoring gives.

        Raises:
            InvalidInputError: queries of another dimension, or a k that is not in 1 to N.
        """
        queries = as_features(queries, self.decoder.dimension, name="queries")
        check_count(k, "k")
        if k > self.size:
            raise InvalidInputError(f"k={k}; there are {self.size} items to find.")
        if self.rescoring is None:
            return self._scan(queries, k)
        self.rescoring.check(self.codes[:0], queries)
        wanted = max(k, min(k * self.factor, self.size))
        candidates = self._scan(queries, wanted)[1]
        rows = max(1, BLOCK_BYTES // (wanted * self.rescoring.item_bytes))
        blocks = [
            nearest_candidates(self.rescoring, self.codes[: len(ids)], query, ids, k)
            for query, ids in zip(torch.split(queries, rows), torch.split(candidates, rows), strict=True)
        ]
        scores, ids = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return scores, ids

    def _scan(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores = torch.full((len(queries), k), -torch.inf)
        ids = torch.zeros(len(queries), k, dtype=torch.int64)
        # Products of numbers near 1 neither overflow nor vanish; the order does not depend on a query's scale.
        query_powers = power_of_two(queries, 1)
        queries = (queries / query_powers).float()
        weights, offsets = self._near_one.weights(queries), queries @ self._near_one.offset
        for start in range(0, self.size, BLOCK_ITEMS):
            estimates = signs(self.codes[start : start + BLOCK_ITEMS], self.decoder.bits)
            lengths = self._block_lengths(start, estimates)
            for rows in torch.split(torch.arange(len(queries)), BLOCK_QUERIES):
                found = (weights[rows] @ estimates.T + offsets[rows, None]) / lengths
                best, places = found.topk(min(k, len(estimates)), dim=1)
                # What was found before comes first, so that of equals it stays.
                merged = torch.cat([scores[rows], best], 1)
                order = merged.argsort(dim=1, descending=True, stable=True)[:, :k]
                scores[rows] = merged.gather(1, order)
                ids[rows] = torch.cat([ids[rows], places + start], 1).gather(1, order)
        if self.measure == "cosine":
            scores /= torch.linalg.vector_norm(queries, dim=1).clamp_min(TINY)[:, None]
            return scores, ids
        return scores * query_powers.float() * self._power, ids

    def _block_lengths(self, start: int, estimates: Tensor) -> Tensor:
        if self.measure != "cosine":
            return torch.ones(len(estimates))
        if self._lengths is not None:
            return self._lengths[start : start + len(estimates)]
        return self._near_one.lengths(estimates)


class ByteLengths:
    """Lengths of decoded vectors in 255 equal steps from the least to the largest, one byte each.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), N at least 1.
        decoder: of b bits.
    """

    def __init__(self, codes: Tensor, decoder: LinearDecoder) -> None:
        lengths = torch.cat([decoder.lengths(signs(block, decoder.bits)) for block in torch.split(codes, BLOCK_ITEMS)])
        self.least = float(lengths.min())
        self.step = max((float(lengths.max()) - self.least) / 255, TINY)
        self.steps = ((lengths - self.least) / self.step).round().clamp(0, 255).to(torch.uint8)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.least + self.steps[rows].float() * self.step
