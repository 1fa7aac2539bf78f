"""A scan of codes with float queries, through vectors decoded from the codes."""

from typing import final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes
from deephash.compression.decoded_vectors import MEASURES
from deephash.compression.linear_decoder import TINY, LinearDecoder, unpack_signs
from deephash.conversion import convert_numpy_numbers
from deephash.functional.safe_scale import power_of_two
from deephash.indexes.rescoring import Rescoring
from deephash.indexes.two_stage import BLOCK_BYTES, check_same_items, nearest_candidates
from deephash.validation import InvalidInputError, as_features, check_choice, check_count

# Items and queries per block: 8 MB of products.
BLOCK_ITEMS, BLOCK_QUERIES = 8192, 256


@final
class AsymmetricScan:
    """Scan that compares every code with the float query, for a better ranking than with the code of the query.

    A scan is a matrix product, tens of times slower than a scan by Hamming distance. `TwoStage` with `DecodedVectors`
    uses Hamming distance for its first stage.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        decoder: decoder for b bits, fitted on codes of the same hasher.
        rescoring: rescoring of the candidates by vector queries, such as `FloatVectors` of the same items; None keeps
            the order of the scan.
        factor: number of candidates per neighbour, if there is a rescoring.
        measure: cosine or inner_product, as for `DecodedVectors`.
        keep_lengths: whether the lengths of decoded vectors are stored for the cosine, one byte per item. Otherwise
            each search computes them, at the cost of b further queries.

    Raises:
        InvalidInputError: there are no codes, they have the wrong length, the factor is below 1, or the rescoring has
            a different number of items.

    Examples:
        >>> from deephash.codes import pack
        >>> vectors = torch.tensor([[1.0, 0.1], [0.1, 1.0], [-1.0, 0.1]])
        >>> codes = pack(vectors >= 0)
        >>> AsymmetricScan(codes, LinearDecoder.fit(codes, vectors, bits=2)).search(vectors[2:], k=1)[1]
        tensor([[2]])
    """

    @convert_numpy_numbers
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
        self._normalised, self._power = decoder.normalise()
        self._lengths = ByteLengths(self.codes, self._normalised) if keep_lengths and measure == "cosine" else None

    @property
    def item_bytes(self) -> int:
        """Bytes per item, without those of the rescoring."""
        return self.codes.shape[1] + (self._lengths is not None)

    @convert_numpy_numbers
    def search(self, queries: Tensor | ArrayLike, k: int = 10) -> tuple[Tensor, Tensor]:
        """Find the k nearest items, nearest first.

        Args:
            queries: floating (q, d).
            k: number of neighbours, 1 to N.

        Returns:
            Scores float32 and ids int64, (q, k). Scores are cosines with the decoded vectors, inner products, or scores
            of the rescoring.

        Raises:
            InvalidInputError: the queries have the wrong dimension, or k is not in 1 to N.
        """
        queries = as_features(queries, self.decoder.dimension, name="queries")
        check_count(k, "k")
        if k > self.size:
            raise InvalidInputError(f"k={k}; expected at most {self.size}, the number of items.")
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
        # Products of numbers near 1 neither overflow nor vanish, and the scale of a query does not change the order.
        query_powers = power_of_two(queries, 1)
        queries = (queries / query_powers).float()
        weights, offsets = self._normalised.weights(queries), queries @ self._normalised.offset
        for start in range(0, self.size, BLOCK_ITEMS):
            estimates = unpack_signs(self.codes[start : start + BLOCK_ITEMS], self.decoder.bits)
            lengths = self._get_block_lengths(start, estimates)
            for rows in torch.split(torch.arange(len(queries)), BLOCK_QUERIES):
                block_scores = (weights[rows] @ estimates.T + offsets[rows, None]) / lengths
                best, places = block_scores.topk(min(k, len(estimates)), dim=1)
                # Earlier results come first, so that they win ties.
                merged = torch.cat([scores[rows], best], 1)
                order = merged.argsort(dim=1, descending=True, stable=True)[:, :k]
                scores[rows] = merged.gather(1, order)
                ids[rows] = torch.cat([ids[rows], places + start], 1).gather(1, order)
        if self.measure == "cosine":
            scores /= torch.linalg.vector_norm(queries, dim=1).clamp_min(TINY)[:, None]
            return scores, ids
        return scores * query_powers.float() * self._power, ids

    def _get_block_lengths(self, start: int, estimates: Tensor) -> Tensor:
        if self.measure != "cosine":
            return torch.ones(len(estimates))
        if self._lengths is not None:
            return self._lengths[start : start + len(estimates)]
        return self._normalised.lengths(estimates)


class ByteLengths:
    """Lengths of decoded vectors, quantised to 255 equal steps, one byte each.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), N at least 1.
        decoder: decoder for b bits.
    """

    def __init__(self, codes: Tensor, decoder: LinearDecoder) -> None:
        lengths = torch.cat(
            [decoder.lengths(unpack_signs(block, decoder.bits)) for block in torch.split(codes, BLOCK_ITEMS)]
        )
        self.shortest = float(lengths.min())
        self.step = max((float(lengths.max()) - self.shortest) / 255, TINY)
        self.steps = ((lengths - self.shortest) / self.step).round().clamp(0, 255).to(torch.uint8)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.shortest + self.steps[rows].float() * self.step
