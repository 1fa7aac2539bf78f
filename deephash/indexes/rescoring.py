"""Scores that order candidates more finely than Hamming distance: by float or int8 vectors, or the query's margins."""

from abc import ABC, abstractmethod
from typing import Self, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash.codes import as_codes, check_codes, code_bytes
from deephash.conversion import PlainArguments, as_tensor
from deephash.functional.safe_scale import power_of_two, safe_lengths
from deephash.ranking.distance import Asymmetric
from deephash.ranking.linear_form import form_bits, form_queries
from deephash.validation import InvalidInputError, as_features, as_numbers, check_choice, to_floating

# Measures of two vectors, and whether a larger value is nearer.
MEASURES = {"cosine": True, "euclidean": False, "inner_product": True}
MAX_INT8 = 127


class Rescoring(PlainArguments, ABC):
    """Scores that order the candidates of each query."""

    size: int
    """Number of items N."""
    more_is_nearer: bool
    """Whether a larger score means a nearer item."""
    item_bytes: int
    """Memory that scoring takes for each candidate, in bytes."""

    @abstractmethod
    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Raise an error if the queries cannot be scored."""

    @abstractmethod
    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Score candidates.

        Args:
            codes: the queries' packed codes uint8 (q, ⌈b/8⌉).
            queries: vectors or margins of the queries, one row per query.
            ids: int64 (q, c), rows of the database.

        Returns:
            float32 or float64 (q, c); NaN for an item that cannot be compared, for example because its vector is not
            finite.
        """


def score_pairs(queries: Tensor, items: Tensor, measure: str) -> Tensor:
    """Compare each query with its own items, at any scale of the values.

    Args:
        queries: floating (q, d), finite.
        items: floating (q, c, d).
        measure: one of MEASURES.

    Returns:
        float64 (q, c): inner products, cosines (0 for a vector of zeros) or Euclidean distances; NaN for an item that
        is not finite.
    """
    # float64 holds the products and squares of all float32 values, but vectors may be float64 themselves.
    queries, items = queries.double(), items.double()
    comparable = torch.isfinite(items).all(2)
    if measure == "euclidean":
        scores = safe_lengths(items - queries[:, None])
    else:
        query_powers, item_powers = power_of_two(queries, 1), power_of_two(items, 2)[:, :, 0]
        queries, items = queries / query_powers, items / item_powers[:, :, None]
        scores = torch.bmm(items, queries[:, :, None])[:, :, 0]
        if measure == "inner_product":
            scores = scores * query_powers * item_powers
        else:
            lengths = torch.linalg.vector_norm(items, dim=2) * torch.linalg.vector_norm(queries, dim=1)[:, None]
            scores = scores / lengths.clamp_min(torch.finfo(torch.float64).tiny)
    return scores.masked_fill_(~comparable, torch.nan)


def check_vectors(vectors: Tensor | NDArray[np.generic], floating: bool) -> None:
    """Raise an error unless vectors are a matrix of a floating dtype, or of int8."""
    kind = str(vectors.dtype).removeprefix("torch.").lstrip("<>=|")
    if vectors.ndim != 2 or not kind.startswith(("float", "bfloat", "f") if floating else ("int8", "i1")):
        raise InvalidInputError(
            f"vectors have shape {tuple(vectors.shape)} and dtype {vectors.dtype}; expected (N, d) of "
            f"{'a floating dtype' if floating else 'int8'}."
        )


@final
class FloatVectors(Rescoring):
    """Unchanged vectors: the best order of candidates, at 2 to 8 bytes per dimension.

    A candidate whose vector has NaN or infinity ranks last; float16 is infinite above 65,504.

    Args:
        vectors: float16, bfloat16, float32 or float64 (N, d), a tensor or an array. An array may be on disk (`np.load`
            with mmap_mode="r"): only the candidates' rows are read.
        measure: cosine, euclidean or inner_product.

    Raises:
        InvalidInputError: vectors are not a floating matrix, or an unknown measure.
    """

    def __init__(self, vectors: Tensor | ArrayLike, measure: str = "euclidean") -> None:
        vectors = as_numbers(vectors, "vectors")
        check_vectors(vectors, floating=True)
        check_choice(measure, MEASURES, "measure")
        self.vectors, self.measure = vectors, measure
        self.size, self.dimension = (int(axis) for axis in vectors.shape)
        self.more_is_nearer = MEASURES[measure]
        # Stored rows, their float64 copies, their scaled copies, and magnitudes.
        self.item_bytes = 32 * self.dimension

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Check that queries are floating (q, d)."""
        as_features(queries, self.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Score by the measure, in float64."""
        return score_pairs(queries, read_rows(self.vectors, ids), self.measure)


@final
class Int8Vectors(Rescoring):
    """Vectors of one byte per dimension: a quarter of the memory of float32, and nearly the same order.

    Args:
        values: int8 (N, d).
        scale: float32 (d,); a vector is about values · scale.
        measure: cosine, euclidean or inner_product; queries stay in float.

    Raises:
        InvalidInputError: values or scale have a wrong shape or dtype, or the measure is unknown.
    """

    def __init__(self, values: Tensor | ArrayLike, scale: Tensor | ArrayLike, measure: str = "euclidean") -> None:
        values = as_numbers(values, "vectors")
        check_vectors(values, floating=False)
        check_choice(measure, MEASURES, "measure")
        self.size, self.dimension = (int(axis) for axis in values.shape)
        scale = to_floating(scale, "scale")
        if scale.shape != (self.dimension,):
            raise InvalidInputError(f"scale has shape {tuple(scale.shape)}; expected ({self.dimension},).")
        self.values, self.scale, self.measure = values, scale.float(), measure
        if not bool(torch.isfinite(self.scale).all()):
            raise InvalidInputError("scale has values beyond float32; divide the vectors by a constant.")
        self.more_is_nearer = MEASURES[measure]
        self.item_bytes = 32 * self.dimension

    @classmethod
    def of(cls, vectors: Tensor | ArrayLike, measure: str = "euclidean") -> Self:
        """Round vectors to 255 steps between the largest magnitude of each dimension and its negative.

        Args:
            vectors: floating (N, d), N at least 1.
            measure: cosine, euclidean or inner_product.

        Raises:
            InvalidInputError: vectors are not a finite floating matrix.
        """
        vectors = as_features(vectors, minimum_rows=1, name="vectors")
        largest = vectors.abs().amax(0).float()
        scale = torch.where(largest > 0, largest, 1.0) / MAX_INT8
        return cls((vectors / scale).round().clamp(-MAX_INT8, MAX_INT8).to(torch.int8), scale, measure)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Check that queries are floating (q, d)."""
        as_features(queries, self.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Score by the measure, in float64."""
        return score_pairs(queries, read_rows(self.values, ids).double() * self.scale, self.measure)


@final
class Margins(Rescoring):
    """The asymmetric distance: a differing bit costs the size of the query's margin; no memory besides the codes.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), such as `index.codes`.
        bits: code length b.

    References:
        Gordo, Perronnin, Gong & Lazebnik, "Asymmetric distances for binary embeddings", TPAMI 2014.
    """

    def __init__(self, codes: Tensor | ArrayLike, bits: int) -> None:
        codes = as_codes(codes)
        check_codes(codes, bits)
        self.codes, self.bits = codes, bits
        self.size = len(codes)
        self.more_is_nearer = False
        self.item_bytes = 24 * 8 * code_bytes(bits)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Check that queries are margins (q, b), projections minus thresholds."""
        as_features(queries, self.bits, name="margins")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Return sums of the query's weights, float64 (q, c), in steps of 1/255 of its largest margin."""
        # Each query has its own step: a common one would make its scores depend on the other queries.
        weights = torch.cat([Asymmetric.from_margins(query).weights for query in torch.split(queries, 1)])
        distance = Asymmetric(self.bits, weights)
        offsets, coefficients = form_queries(codes, distance)
        bits = form_bits(self.codes[ids.flatten()], distance).view(*ids.shape, -1).to(coefficients.dtype)
        return offsets[:, None] + torch.bmm(bits, coefficients[:, :, None])[:, :, 0]


def read_rows(vectors: Tensor | NDArray[np.generic], ids: Tensor) -> Tensor:
    """Return rows (q, c, d) of a tensor or an array, in its dtype."""
    if isinstance(vectors, Tensor):
        return vectors[ids]
    return as_tensor(vectors[ids.numpy()])
