"""Candidates ordered by what their codes say of their vectors."""

from typing import final

from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes, code_bytes
from deephash.compression.linear_decoder import LinearDecoder, signs
from deephash.functional.safe_scale import power_of_two
from deephash.indexes.rescoring import Rescoring
from deephash.validation import as_features, check_choice

MEASURES = ("cosine", "inner_product")


@final
class DecodedVectors(Rescoring):
    """Queries in float against the vectors that a decoder reads from the codes; no memory beside the codes.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), as an index keeps them.
        decoder: of b bits, fitted on codes of the same kind.
        measure: cosine, or inner_product. Estimates are shorter than vectors, some more than others, so for vectors of
            one length the cosine orders them better by far; it leaves the query's own length out.

    Raises:
        InvalidInputError: codes of another length, or another measure.
    """

    def __init__(self, codes: Tensor | ArrayLike, decoder: LinearDecoder, measure: str = "cosine") -> None:
        codes = as_codes(codes)
        decoder.check_codes(codes)
        check_choice(measure, MEASURES, "measure")
        self.codes, self.decoder, self.measure = codes, decoder, measure
        self._near_one, self._power = decoder.near_one()
        self.size = len(codes)
        self.more_is_nearer = True
        # Bits as bytes, as whole numbers and as floats, and their products with the triangle.
        self.item_bytes = 28 * 8 * code_bytes(decoder.bits)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Queries are floating (q, d)."""
        as_features(queries, self.decoder.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Products of queries and estimates, float64 (q, c); for the cosine over the estimates' lengths."""
        decoder, query_powers = self._near_one, power_of_two(queries, 1)
        queries = (queries / query_powers).float()
        estimates = signs(self.codes[ids.flatten()], decoder.bits).view(*ids.shape, -1)
        products = (estimates @ decoder.weights(queries)[:, :, None])[:, :, 0]
        products += (queries @ decoder.offset)[:, None]
        # In float64, which holds products of all that float32 does.
        if self.measure == "cosine":
            return (products / decoder.lengths(estimates)).double() * query_powers
        return products.double() * query_powers * self._power
