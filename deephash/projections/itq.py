"""Iterative quantisation (Gong & Lazebnik, CVPR 2011)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import principal_components
from deephash.functional.procrustes import procrustes_rotation, random_orthogonal
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import check_count, check_directions

# Rows a block: 2048 rows of 64 float32 projections and their signs are 1 MB, which the cache of a core holds.
BLOCK_ROWS = 2048

# The kernel keeps a rotation in the first cache levels, 64 KB at 128; beyond, a library's matrix product is faster.
WIDEST_KERNEL = 128
# Terms of all inner products from which the kernel saves more than the .3 s that loading it takes.
WORTH_COMPILING = 10**10


def sign_correlation(projections: Tensor, rotation: Tensor) -> Tensor:
    """C = Vᵀ B of the bits B = sign(V R) in {-1, 1}, summed over blocks of rows that stay in the cache.

    Args:
        projections: V, floating (n, k).
        rotation: R, (k, k).

    Returns:
        C float64 (k, k).
    """
    rotation = rotation.to(projections.dtype)
    ones = torch.zeros_like(rotation, dtype=torch.float64)
    for block in torch.split(projections, BLOCK_ROWS):
        # In place: the rotated block becomes 1 where its bit is 1 (margin >= 0) and 0 elsewhere.
        ones += block.T @ (block @ rotation).ge_(0)
    return 2 * ones - projections.sum(0, dtype=torch.float64)[:, None]


def iterative_quantisation(projections: Tensor, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rotation that turns projections towards the corners of the cube, by alternating minimisation (section 3.2).

    Each round fixes R and sets B = sign(V R), then fixes B and solves for R (Procrustes); neither step can raise
    ‖B - V R‖². B enters only through C = Vᵀ B (k × k), so no code matrix is kept, and the error,
    ‖B - V R‖² = n k + ‖V‖² - 2 tr(Rᵀ C), needs no pass of its own.

    Args:
        projections: V, floating (n, k), centred; the rotation is learnt from every row.
        iterations: number of rounds.
        generator: CPU generator of the random start.

    Returns:
        R float64 (k, k), orthogonal; and the error ‖B - V R‖² after each round, float64 (iterations,).
    """
    k = projections.shape[1]
    constant = count_rows(projections) * k + float(sum_over_processes(projections.square().sum(dtype=torch.float64)))
    rotation = random_orthogonal(k, generator).to(projections.device)
    errors = torch.empty(iterations, dtype=torch.float64)
    with _correlation_by_signs(projections, iterations) as correlation:
        for i in track(range(iterations), "ITQ"):
            rotation, agreement = procrustes_rotation(sum_over_processes(correlation(rotation)))
            errors[i] = constant - 2 * agreement
    return rotation, errors


@contextmanager
def _correlation_by_signs(projections: Tensor, iterations: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """`sign_correlation` of these projections, through the compiled kernel where its start is worth the while."""
    n, k = count_rows(projections), projections.shape[1]
    suits = projections.device.type == "cpu" and projections.dtype == torch.float32 and k <= WIDEST_KERNEL
    if suits and n * k * k * iterations >= WORTH_COMPILING:
        from deephash.functional.sign_flips import sign_flips

        with sign_flips(projections) as flips:
            yield flips
    else:
        yield partial(sign_correlation, projections)


@final
class ITQ(Projection):
    """PCA, then the rotation of it that loses least when each coordinate is cut to its sign.

    Rotating evens out the variances, so that each bit carries its share; distances in the PCA space stay as they are.
    Known weakness: the objective has many local minima, so the random start matters a little (its seed is the
    generator's), and the variance beyond the first k components is lost.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        iterations: rounds of alternating minimisation; 50 as in the paper.

    Attributes:
        quantisation_errors: float64 (iterations,), ‖B - V R‖² after each round of the last fit; it never rises.

    Raises:
        InvalidInputError: iterations below 1, more projections than dimensions; in `fit`, more than directions in
            which the rows vary, at most n - 1 for n rows.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011; with
        Gordo & Perronnin, IEEE TPAMI 2013.
    """

    minimum_rows: ClassVar[int] = 2
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)
    fits_on_shares: ClassVar[bool] = True

    mean: Tensor
    quantisation_errors: Tensor

    def __init__(self, input_dim: int, output_dim: int, iterations: int = 50) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"ITQ can give for d={input_dim} features")
        check_count(iterations, "iterations")
        self.iterations = iterations
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("quantisation_errors", torch.zeros(iterations, dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, W being the principal directions, rotated; its columns stay orthonormal."""
        return project_centred(features, self.mean, self.directions)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {len(features)} training rows vary")
        self.mean.copy_(mean)
        projections = torch.empty(len(features), self.output_dim, dtype=self.mean.dtype, device=features.device)
        directions = components.to(projections.dtype)
        for rows, out in zip(torch.split(features, BLOCK_ROWS), torch.split(projections, BLOCK_ROWS), strict=True):
            out.copy_(project_centred(rows, self.mean, directions))
        rotation, errors = iterative_quantisation(projections, self.iterations, generator)
        self.directions.copy_(components @ rotation)
        self.quantisation_errors.copy_(errors)
