"""A scan of codes with float queries, through vectors decoded from the codes."""

from typing import final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes
from deephash.compression.code_products import ByteLengths, CodeProducts
from deephash.compression.decoded_vectors import MEASURES
from deephash.compression.linear_decoder import TINY, LinearDecoder
from deephash.compression.tiled_codes import TiledCodes
from deephash.conversion import convert_numpy_numbers
from deephash.functional.safe_scale import power_of_two
from deephash.indexes.rescoring import Rescoring
from deephash.indexes.two_stage import BLOCK_BYTES, check_same_items, nearest_candidates
from deephash.ranking.numba_vectors import SHUFFLES
from deephash.validation import InvalidInputError, as_features, check_choice, check_count


@final
class AsymmetricScan:
    """Scan that compares every code with the float query, for a better ranking than with the code of the query.

    On processors with AVX2, items are compared in vector instructions, and those that cannot be among the results are
    sorted out by sums of small whole numbers; the results are exact. Elsewhere, and without stored lengths, a scan is a
    matrix product, tens of times slower. `TwoStage` with `DecodedVectors` uses Hamming distance for its first stage.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), on the CPU.
        decoder: decoder for b bits, fitted on codes of the same hasher.
        rescoring: rescoring of the candidates by vector queries, such as `FloatVectors` of the same items; None keeps
            the order of the scan.
        factor: number of candidates per neighbour, if there is a rescoring.
        measure: cosine or inner_product, as for `DecodedVectors`.
        keep_lengths: whether the lengths of decoded vectors are stored for the cosine, one byte per item. Otherwise
            each search computes them, at the cost of b further queries, and is a matrix product.

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
        self.decoder = decoder
        self.size, self._code_bytes = codes.shape
        if rescoring is not None:
            check_same_items(rescoring, self.size)
        self.rescoring, self.factor, self.measure = rescoring, factor, measure
        self._normalised, self._power = decoder.normalise()
        by_length = measure == "cosine"
        lengths = ByteLengths(codes, self._normalised) if by_length and keep_lengths else None
        self._stores_lengths = lengths is not None
        self._scanner: TiledCodes | CodeProducts
        if SHUFFLES and lengths is not None:
            self._scanner = TiledCodes(codes, lengths.steps, lengths.shortest, lengths.step)
        elif SHUFFLES and not by_length:
            self._scanner = TiledCodes(codes)
        else:
            self._scanner = CodeProducts(codes, self._normalised, by_length, lengths)

    @property
    def codes(self) -> Tensor:
        """Packed codes of the database, uint8 (N, ⌈b/8⌉); a copy if the scan holds them in tiles."""
        return self._scanner.read_codes()

    @property
    def item_bytes(self) -> int:
        """Bytes per item, without those of the rescoring."""
        return self._code_bytes + self._stores_lengths

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
        own_codes = torch.zeros(len(queries), self._code_bytes, dtype=torch.uint8)  # A rescoring by vectors needs none.
        self.rescoring.check(own_codes, queries)
        wanted = max(k, min(k * self.factor, self.size))
        candidates = self._scan(queries, wanted)[1]
        rows = max(1, BLOCK_BYTES // (wanted * self.rescoring.item_bytes))
        blocks = [
            nearest_candidates(self.rescoring, own_codes[: len(ids)], query, ids, k)
            for query, ids in zip(torch.split(queries, rows), torch.split(candidates, rows), strict=True)
        ]
        scores, ids = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return scores, ids

    def _scan(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # Products of numbers near 1 neither overflow nor vanish, and the scale of a query does not change the order.
        query_powers = power_of_two(queries, 1)
        queries = (queries / query_powers).float()
        scores, ids = self._scanner.search(self._normalised.weights(queries), queries @ self._normalised.offset, k)
        if self.measure == "cosine":
            scores /= torch.linalg.vector_norm(queries, dim=1).clamp_min(TINY)[:, None]
            return scores, ids
        return scores * query_powers.float() * self._power, ids
