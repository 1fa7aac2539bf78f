"""Candidates ordered by what their codes say of their vectors."""

from typing import final

from torch import Tensor

from deephash.codes import code_bytes
from deephash.compression.linear_decoder import LinearDecoder, signs
from deephash.indexes.rescoring import Rescoring
from deephash.validation import check_choice, check_features

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

    def __init__(self, codes: Tensor, decoder: LinearDecoder, measure: str = "cosine") -> None:
        decoder.check_codes(codes)
        check_choice(measure, MEASURES, "measure")
        self.codes, self.decoder, self.measure = codes, decoder, measure
        self.size = len(codes)
        self.more_is_nearer = True
        # Bits as bytes, as whole numbers and as floats, and their products with the triangle.
        self.item_bytes = 28 * 8 * code_bytes(decoder.bits)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Queries are floating (q, d)."""
        check_features(queries, self.decoder.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Products of queries and estimates, float32 (q, c); for the cosine over the estimates' lengths."""
        estimates = signs(self.codes[ids.flatten()], self.decoder.bits).view(*ids.shape, -1)
        products = (estimates @ self.decoder.weights(queries)[:, :, None])[:, :, 0]
        products += (queries.float() @ self.decoder.offset)[:, None]
        return products / self.decoder.lengths(estimates) if self.measure == "cosine" else products
