"""What says more of an item than its code: its vector in float or int8, or the margins of the query's own bits."""

from abc import ABC, abstractmethod
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.codes import code_bytes
from deephash.ranking.distance import Asymmetric
from deephash.ranking.linear_form import form_bits, form_queries
from deephash.validation import InvalidInputError, check_choice, check_features

# How vectors are compared, and whether more is nearer.
MEASURES = {"cosine": True, "euclidean": False, "inner_product": True}
INT8_LARGEST = 127


class Rescoring(ABC):
    """Scores of some items for each query, exactly enough to put candidates in order."""

    size: int
    """Number of items N."""
    more_is_nearer: bool
    """Whether a larger score is a nearer item."""
    item_bytes: int
    """Memory that scoring takes for each candidate."""

    @abstractmethod
    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Refuse queries that this cannot score.

        Raises:
            InvalidInputError: naming what is wrong.
        """

    @abstractmethod
    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Scores of candidates.

        Args:
            codes: the queries' packed codes uint8 (q, ⌈b/8⌉).
            queries: what is known of them beside, one row a query.
            ids: int64 (q, c), rows of the database.

        Returns:
            float32 or float64 (q, c).
        """


def compared(queries: Tensor, items: Tensor, measure: str) -> Tensor:
    """Each query against its own items.

    Args:
        queries: float32 (q, d).
        items: float32 (q, c, d).
        measure: one of MEASURES.

    Returns:
        float32 (q, c): inner products, cosines (0 for a vector of zeros) or Euclidean distances.
    """
    if measure == "euclidean":
        return (items - queries[:, None]).square_().sum(2).sqrt_()
    products = torch.bmm(items, queries[:, :, None])[:, :, 0]
    if measure == "inner_product":
        return products
    lengths = torch.linalg.vector_norm(items, dim=2) * torch.linalg.vector_norm(queries, dim=1)[:, None]
    return products.div_(lengths.clamp_min(torch.finfo(torch.float32).tiny))


def check_vectors(vectors: Tensor | NDArray[np.generic], floating: bool) -> None:
    """Refuse what is no matrix of vectors.

    Raises:
        InvalidInputError: another number of axes, or another type of numbers.
    """
    fits = vectors.ndim == 2 and (
        np.dtype(str(vectors.dtype).removeprefix("torch.")).name.startswith("float" if floating else "int8")
    )
    if not fits:
        raise InvalidInputError(
            f"vectors have shape {tuple(vectors.shape)} and dtype {vectors.dtype}; expected (N, d) of "
            f"{'a floating dtype' if floating else 'int8'}."
        )


@final
class FloatVectors(Rescoring):
    """Vectors as they are: the best order of candidates, at 2 to 8 bytes a dimension.

    Args:
        vectors: float16, float32 or float64 (N, d), a tensor or an array, which may lie on disk (`np.load` with
            mmap_mode="r"): a candidate's row alone is read.
        measure: cosine, euclidean or inner_product.

    Raises:
        InvalidInputError: no floating matrix, or another measure.
    """

    def __init__(self, vectors: Tensor | NDArray[np.floating], measure: str = "euclidean") -> None:
        check_vectors(vectors, floating=True)
        check_choice(measure, MEASURES, "measure")
        self.vectors, self.measure = vectors, measure
        self.size, self.dimension = (int(axis) for axis in vectors.shape)
        self.more_is_nearer = MEASURES[measure]
        # Rows as stored, as float32, and their differences or squares.
        self.item_bytes = 16 * self.dimension

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Queries are floating (q, d)."""
        check_features(queries, self.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """By the measure, in float32."""
        return compared(queries.float(), rows_of(self.vectors, ids).float(), self.measure)


@final
class Int8Vectors(Rescoring):
    """Vectors of one byte a dimension: a quarter of float32, and nearly its order.

    Args:
        values: int8 (N, d).
        scale: float32 (d,); a vector is about values · scale.
        measure: cosine, euclidean or inner_product; queries stay in float.

    Raises:
        InvalidInputError: no such matrix or scale, or another measure.
    """

    def __init__(self, values: Tensor | NDArray[np.int8], scale: Tensor, measure: str = "euclidean") -> None:
        check_vectors(values, floating=False)
        check_choice(measure, MEASURES, "measure")
        self.size, self.dimension = (int(axis) for axis in values.shape)
        if scale.shape != (self.dimension,):
            raise InvalidInputError(f"scale has shape {tuple(scale.shape)}; expected ({self.dimension},).")
        self.values, self.scale, self.measure = values, scale.float(), measure
        self.more_is_nearer = MEASURES[measure]
        self.item_bytes = 16 * self.dimension

    @classmethod
    def of(cls, vectors: Tensor, measure: str = "euclidean") -> Self:
        """Vectors rounded to 255 steps, from the largest value of each dimension to its negative.

        Args:
            vectors: floating (N, d), N at least 1.
            measure: as above.

        Raises:
            InvalidInputError: no finite floating matrix.
        """
        check_features(vectors, minimum_rows=1, name="vectors")
        largest = vectors.abs().amax(0).float()
        scale = torch.where(largest > 0, largest, 1.0) / INT8_LARGEST
        return cls((vectors / scale).round().clamp(-INT8_LARGEST, INT8_LARGEST).to(torch.int8), scale, measure)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Queries are floating (q, d)."""
        check_features(queries, self.dimension, name="queries")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """By the measure, in float32."""
        return compared(queries.float(), rows_of(self.values, ids).float() * self.scale, self.measure)


@final
class Margins(Rescoring):
    """The asymmetric distance: a differing bit costs the query's own margin; no memory beside the codes.

    Args:
        codes: packed codes of the database, uint8 (N, ⌈b/8⌉), as an index keeps them.
        bits: code length b.

    References:
        Gordo, Perronnin, Gong & Lazebnik, "Asymmetric distances for binary embeddings", TPAMI 2014.
    """

    def __init__(self, codes: Tensor, bits: int) -> None:
        self.codes, self.bits = codes, bits
        self.size = len(codes)
        self.more_is_nearer = False
        self.item_bytes = 24 * 8 * code_bytes(bits)

    def check(self, codes: Tensor, queries: Tensor) -> None:
        """Queries are margins (q, b), projections less thresholds."""
        check_features(queries, self.bits, name="margins")

    def scores(self, codes: Tensor, queries: Tensor, ids: Tensor) -> Tensor:
        """Sums of the query's weights, float64 (q, c), in steps of its largest margin / 255."""
        # Weights are a query's own: a step common to all would make its scores depend on the others.
        weights = torch.cat([Asymmetric.from_margins(one).weights for one in torch.split(queries, 1)])
        distance = Asymmetric(self.bits, weights)
        offsets, coefficients = form_queries(codes, distance)
        bits = form_bits(self.codes[ids.flatten()], distance).view(*ids.shape, -1).to(coefficients.dtype)
        return offsets[:, None] + torch.bmm(bits, coefficients[:, :, None])[:, :, 0]


def rows_of(vectors: Tensor | NDArray[np.generic], ids: Tensor) -> Tensor:
    """Rows (q, c, d) of a tensor or an array, as it stores them."""
    if isinstance(vectors, Tensor):
        return vectors[ids]
    return torch.from_numpy(np.asarray(vectors[ids.numpy()]))
