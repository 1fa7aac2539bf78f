"""Iterative quantisation (Gong & Lazebnik, CVPR 2011)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import principal_components
from deephash.functional.procrustes import procrustes_rotation, random_orthogonal
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.io.progress import track
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import check_count, check_directions

# 2048 rows of 64 float32 projections and their signs are 1 MB, which fits in the cache of a core.
BLOCK_ROWS = 2048

# Largest width of the compiled kernel, which keeps a rotation in the first cache levels, 64 KB at this width. For
# larger rotations, a library's matrix product is faster.
WIDEST_KERNEL = 128
# From this number of multiplications, the compiled kernel saves more than the .3 s that it takes to load.
WORTH_COMPILING = 10**10


def project_in_blocks(features: Tensor, mean: Tensor, directions: Tensor, block_rows: int = BLOCK_ROWS) -> Tensor:
    """(X - μ) W in the dtype of μ, (n, k), in blocks of rows."""
    projections = torch.empty(len(features), directions.shape[1], dtype=mean.dtype, device=features.device)
    directions = directions.to(mean.dtype)
    for rows, out in zip(torch.split(features, block_rows), torch.split(projections, block_rows), strict=True):
        out.copy_(project_centred(rows, mean, directions))
    return projections


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
    """Learn the rotation that turns projections towards the corners of the cube (section 3.2).

    Each iteration first fixes R and sets B = sign(V R), then fixes B and solves for R (Procrustes). Neither step can
    raise ‖B - V R‖². B enters only through C = Vᵀ B (k × k), so no code matrix is stored. The error,
    ‖B - V R‖² = n k + ‖V‖² - 2 tr(Rᵀ C), needs no separate pass.

    Args:
        projections: V, floating (n, k), centred; the rotation is learnt from every row.
        iterations: number of iterations.
        generator: CPU generator of the random start.

    Returns:
        R float64 (k, k), orthogonal; and the error ‖B - V R‖² after each iteration, float64 (iterations,).
    """
    k = projections.shape[1]
    constant = count_rows(projections) * k + float(sum_over_processes(projections.square().sum(dtype=torch.float64)))
    rotation = random_orthogonal(k, generator).to(projections.device)
    errors = torch.empty(iterations, dtype=torch.float64)
    with _provide_sign_correlation(projections, iterations) as correlation:
        for i in track(range(iterations), "ITQ"):
            rotation, agreement = procrustes_rotation(sum_over_processes(correlation(rotation)))
            errors[i] = constant - 2 * agreement
    return rotation, errors


@contextmanager
def _provide_sign_correlation(projections: Tensor, iterations: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Provide `sign_correlation` of projections, by the compiled kernel if that saves more time than loading it."""
    n, k = count_rows(projections), projections.shape[1]
    is_supported = projections.device.type == "cpu" and projections.dtype == torch.float32 and k <= WIDEST_KERNEL
    if is_supported and n * k * k * iterations >= WORTH_COMPILING:
        from deephash.functional.sign_flips import sign_flips

        with sign_flips(projections) as flips:
            yield flips
    else:
        yield partial(sign_correlation, projections)


@final
class ITQ(LinearProjection):
    """Iterative quantisation: learns a rotation of the principal components that loses least when only signs are kept.

    PCA gives the k directions of largest variance. ITQ then alternates two steps: it sets the bits to the signs of the
    rotated projections, and solves for the rotation that brings the projections nearest to these bits. Rotation evens
    out the variances, so that all bits carry similar information, and keeps distances in the PCA space. The columns of
    W stay orthonormal.
    Known weakness: the objective has many local minima, so the random start, drawn from the generator, matters a
    little. The variance beyond the first k components is lost.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        iterations: iterations of alternating minimisation; 50 as in the paper.

    Attributes:
        quantisation_errors: float64 (iterations,), ‖B - V R‖² after each iteration of the last fit; it never rises.

    Raises:
        InvalidInputError: iterations is below 1, or there are more projections than dimensions; in `fit`, there are
            more projections than directions in which the rows vary, at most n - 1 for n rows.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011; with
        Gordo & Perronnin, IEEE TPAMI 2013.
    """

    minimum_rows: ClassVar[int] = 2
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)
    fits_on_shares: ClassVar[bool] = True

    quantisation_errors: Tensor

    def __init__(self, input_dim: int, output_dim: int, iterations: int = 50) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"ITQ can give for d={input_dim} features")
        check_count(iterations, "iterations")
        self.iterations = iterations
        self.register_buffer("quantisation_errors", torch.zeros(iterations, dtype=torch.float64))

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {len(features)} training rows vary")
        self.mean.copy_(mean)
        projections = project_in_blocks(features, self.mean, components)
        rotation, errors = iterative_quantisation(projections, self.iterations, generator)
        self.directions.copy_(components @ rotation)
        self.quantisation_errors.copy_(errors)
