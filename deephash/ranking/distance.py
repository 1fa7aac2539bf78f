"""Distances that codes can be ranked by; all are integers from 0 to `maximum`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import code_bytes
from deephash.conversion import as_tensor, convert_numpy_arguments, convert_numpy_numbers
from deephash.functional.safe_scale import power_of_two
from deephash.validation import InvalidInputError, as_features, as_numbers, check_bits, is_whole


@convert_numpy_arguments
@dataclass(frozen=True)
class Hamming:
    """Number of differing bits between packed codes.

    Args:
        bits: code length b; queries and database are packed codes uint8 (., ⌈b/8⌉).
    """

    bits: int

    def __post_init__(self) -> None:
        check_bits(self.bits)

    @property
    def maximum(self) -> int:
        """The largest distance, b."""
        return self.bits

    @property
    def code_bits(self) -> int:
        """Length b of the packed codes of queries and database."""
        return self.bits


@dataclass(frozen=True)
class LevelDistance(ABC):
    """Manhattan distance of integers that a code stores per projection in natural binary, lowest bit first."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Bits of each projection."""

    @property
    def maximum(self) -> int:
        """The largest distance, Σ (2^q - 1) over the projections, each of q bits."""
        return sum((1 << bits) - 1 for bits in self.widths)

    @property
    def code_bits(self) -> int:
        """Length Σ q of the packed codes of queries and database."""
        return sum(self.widths)


@convert_numpy_arguments
@dataclass(frozen=True)
class Manhattan(LevelDistance):
    """Sum over projections of the absolute difference of decoded integers (Kong, Li & Guo, SIGIR 2012, Eq. 3).

    Args:
        dimensions: number of projections k.
        bits_per_dimension: number of bits q of each integer, 1 to 8.
    """

    dimensions: int
    bits_per_dimension: int

    def __post_init__(self) -> None:
        check_bits(self.dimensions)
        check_bits(self.bits_per_dimension, 8, "the most bits a dimension can have")

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each projection: q, k times."""
        return (self.bits_per_dimension,) * self.dimensions


@convert_numpy_arguments
@dataclass(frozen=True)
class VariableManhattan(LevelDistance):
    """Manhattan distance of decoded integers whose number of bits differs between projections.

    Equal to `Manhattan` if all projections have the same number of bits.

    Args:
        bits_per_dimension: bits of each of the k projections, 0 to 8; a projection of 0 bits adds nothing.
    """

    bits_per_dimension: tuple[int, ...]

    def __post_init__(self) -> None:
        # A tuple, so that the distance can be hashed.
        if not isinstance(self.bits_per_dimension, tuple):
            raise InvalidInputError(
                f"bits_per_dimension is a {type(self.bits_per_dimension).__name__}; give a tuple of whole numbers."
            )
        for bits in self.bits_per_dimension:
            if not is_whole(bits) or not 0 <= bits <= 8:
                raise InvalidInputError(f"bits_per_dimension holds {bits!r}; expected whole numbers from 0 to 8.")
        if not sum(self.bits_per_dimension):
            raise InvalidInputError(f"bits_per_dimension={self.bits_per_dimension}; give at least one dimension a bit.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of each projection."""
        return self.bits_per_dimension


@convert_numpy_arguments
@dataclass(frozen=True)
class Asymmetric:
    """Weighted Hamming distance with weights from each query's own projections (Gordo et al., TPAMI 2014).

    A differing bit j costs the query's integer weight w_j: the distance of its projection from the threshold, rounded
    to a fixed grid. Distances are therefore integers, and their histograms are exact. The weights belong to the queries
    that are passed to `rank`.

    Args:
        bits: code length b.
        weights: int32 (q, b), each >= 0, one row per query; see `from_margins`.
    """

    bits: int
    weights: Tensor

    def __post_init__(self) -> None:
        check_bits(self.bits)
        object.__setattr__(self, "weights", as_tensor(as_numbers(self.weights, "weights")))
        if self.weights.dtype != torch.int32 or self.weights.ndim != 2 or self.weights.shape[1] != self.bits:
            raise InvalidInputError(
                f"weights have shape {tuple(self.weights.shape)} and dtype {self.weights.dtype}; "
                f"expected int32 (q, {self.bits}), as Asymmetric.from_margins returns."
            )
        if self.weights.numel() and int(self.weights.min()) < 0:
            raise InvalidInputError(f"weights hold {int(self.weights.min())}; a differing bit cannot cost less than 0.")

    @classmethod
    @convert_numpy_numbers
    def from_margins(cls, margins: Tensor | ArrayLike, levels: int = 255) -> "Asymmetric":
        """Compute weights from the queries' margins (q, b): |margin| in steps of 1/levels of the batch's largest one.

        Args:
            margins: floating (q, b), projections minus thresholds.
            levels: weight of the largest margin; 255 gives a rounding error of 0.2 % of that margin.
        """
        margins = as_features(margins, name="margins")
        if margins.dtype not in (torch.float32, torch.float64):
            margins = margins.float()
        if len(margins):
            # Division by a power of two is exact, and keeps levels / largest within the range of the dtype.
            margins = margins / power_of_two(margins)
        largest = margins.abs().amax().clamp_min(torch.finfo(margins.dtype).tiny) if len(margins) else 1.0
        return cls(margins.shape[1], (margins.abs() * (levels / largest)).round().to(torch.int32))

    @property
    def maximum(self) -> int:
        """Upper bound on the distance of any query: the largest sum of a query's weights."""
        return int(self.weights.sum(1).max()) if len(self.weights) else 0

    @property
    def code_bits(self) -> int:
        """Length b of the packed codes of queries and database."""
        return self.bits


Distance = Hamming | Manhattan | VariableManhattan | Asymmetric


def distance_bytes(distance: Distance) -> int:
    """Return the number of bytes of a packed code that `distance` ranks."""
    return code_bytes(distance.code_bits)
