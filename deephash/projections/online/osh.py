"""Online sketching hashing: PCA of a stream from a small sketch of it (Leng, Wu, Cheng, Bai & Lu, CVPR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.principal_components import canonical_signs
from deephash.functional.procrustes import random_orthogonal
from deephash.projections.online.moving_projection import MovingProjection
from deephash.validation import InvalidInputError, check_count, check_directions


def frequent_directions(sketch: Tensor, rows: Tensor) -> Tensor:
    """Add rows to a sketch B of ℓ rows, so that ‖B x‖² stays near ‖A x‖² for the matrix A of all rows added so far.

    When the sketch is full, its singular values shrink so that half of its rows become free. The loss is at most
    2 ‖A‖²_F / ℓ in any direction x of unit length, and never negative. The sketch is exact while the rank of A is below
    ℓ / 2.

    Args:
        sketch: B, float64 (ℓ, d), ℓ even; unused rows are 0.
        rows: float64 (n, d).

    Returns:
        float64 (ℓ, d); if the sketch was full, at least half of its rows are 0.
    """
    size = len(sketch)
    filled = sketch[sketch.any(1)]
    while len(rows):
        taken = rows[: size - len(filled)]
        filled, rows = torch.cat([filled, taken]), rows[len(taken) :]
        if len(filled) < size:
            break
        _, singular, right = torch.linalg.svd(filled, full_matrices=False)
        half = size // 2
        # With fewer dimensions than half the rows, nothing is lost.
        lost = singular[half - 1].square() if len(singular) >= half else singular.new_zeros(())
        filled = (singular[: half - 1].square() - lost).clamp_min(0).sqrt()[:, None] * right[: half - 1]
    return torch.cat([filled, sketch.new_zeros(size - len(filled), sketch.shape[1])])


@final
class OSH(MovingProjection):
    """Online sketching hashing: learns the principal components of a stream from a sketch of a few rows.

    Each batch enters the sketch minus its own mean, with one additional row for the difference between this mean and
    the mean of earlier items. The sketch thus describes the centred data, although the mean moves. The leading right
    singular vectors are multiplied by a rotation drawn once, which evens out the variances of the bits. The columns of
    W are orthonormal.
    Known weakness: it uses no labels and forgets nothing: after a drift, older items outweigh new ones.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        sketch_rows: ℓ, number of rows of the sketch, even; None for 2k + 2, the minimum that always gives k directions
            (2k in the paper).

    Raises:
        InvalidInputError: there are more projections than dimensions, or than directions in which the first batch
            varies; the sketch size is odd or too small.

    References:
        Leng, Wu, Cheng, Bai & Lu, "Online sketching hashing", CVPR 2015; Liberty, "Simple and deterministic matrix
        sketching", KDD 2013.
    """

    minimum_rows: ClassVar[int] = 2
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)

    stream_mean: Tensor
    sketch: Tensor
    rotation: Tensor

    def __init__(self, input_dim: int, output_dim: int, sketch_rows: int | None = None) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"OSH can give for d={input_dim} features")
        self.sketch_rows = sketch_rows
        minimum = 2 * output_dim + 2
        size = minimum if sketch_rows is None else sketch_rows
        check_count(size, "sketch_rows")
        if size % 2 or size < minimum:
            raise InvalidInputError(
                f"sketch_rows={size}; expected an even number of at least {minimum}, twice the projections plus 2."
            )
        self.register_buffer("stream_mean", torch.zeros(input_dim, dtype=torch.float64))
        self.register_buffer("sketch", torch.zeros(size, input_dim, dtype=torch.float64))
        self.register_buffer("rotation", torch.eye(output_dim, dtype=torch.float64))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.stream_mean.zero_()
        self.sketch.zero_()
        self.rotation.copy_(random_orthogonal(self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        rows, seen = features.double(), int(self.seen)
        n = len(rows)
        batch_mean = rows.mean(0)
        moved = batch_mean - self.stream_mean
        compensation = (seen * n / (seen + n)) ** 0.5 * moved
        self.sketch.copy_(frequent_directions(self.sketch, torch.cat([rows - batch_mean, compensation[None]])))
        self.stream_mean.add_(moved * (n / (seen + n)))
        _, singular, right = torch.linalg.svd(self.sketch, full_matrices=False)
        m = int((singular > len(singular) * torch.finfo(torch.float64).eps * singular[0]).sum())
        check_directions(self.output_dim, m, f"in which the {seen + n} items so far vary")
        self.mean.copy_(self.stream_mean)
        self.directions.copy_(canonical_signs(right[: self.output_dim].T) @ self.rotation)
