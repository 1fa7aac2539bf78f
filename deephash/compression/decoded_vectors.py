"""Rescoring of candidates by vectors decoded from their codes."""

from typing import final

from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes, code_bytes
from deephash.compression.linear_decoder import LinearDecoder, unpack_signs
from deephash.functional.safe_scale import power_of_two
from deephash.indexes.rescoring import Rescoring
from deephash.validation import as_features, check_choice

MEASURES = ("cosine", "inner_product")


@final
class DecodedVectors(Rescoring):
    """Comparison of float queries with vectors decoded from codes, without memory besides the codes.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), as in the index.
        decoder: decoder for b bits, fitted on codes of the same hasher.
        measure: cosine or inner_product. Decoded vectors are shorter than the originals by varying factors, so if all
            originals have equal lengths, the cosine is far better. The cosine ignores the length of the query.

    Raises:
        InvalidInputError: the codes have the wrong length, or the measure is unknown.
    """

    def __init__(self, codes: Tensor | ArrayLike, decoder: LinearDecoder, measure: str = "cosine") -> None:
        codes = as_codes(codes)
        decoder.check_codes(codes)
        check_choice(measure, MEASURES, "measure")
        self.codes, self.decoder, self.measure = codes, decoder, measure
        self._normalised, self._power = decoder.normalise()
        self.size = len(codes)
        self.more_is_nearer = True
        # Bytes per candidate: its bits as bytes, integers and floats, and the product in `decoder.lengths`.
        self.item_bytes = 28 * 8 * code_bytes(decoder.bits)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Raise an error if queries are not floating (q, d)."""
        as_features(queries, self.decoder.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Return inner products, or cosines times the length of the query, float64 (q, c)."""
        decoder, query_powers = self._normalised, power_of_two(queries, 1)
        queries = (queries / query_powers).float()
        estimates = unpack_signs(self.codes[ids.flatten()], decoder.bits).view(*ids.shape, -1)
        products = (estimates @ decoder.weights(queries)[:, :, None])[:, :, 0]
        products += (queries @ decoder.offset)[:, None]
        # float64 represents all products of float32 numbers.
        if self.measure == "cosine":
            return (products / decoder.lengths(estimates)).double() * query_powers
        return products.double() * query_powers * self._power
