"""Spectral hashing (Weiss, Torralba & Fergus, NIPS 2008)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import BLOCK_ROWS, principal_components
from deephash.functional.row_shares import max_over_processes, min_over_processes
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError


def smallest_modes(lengths: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose the k analytical eigenfunctions of smallest eigenvalue over a box, without the constant one (section 3.1).

    On an interval of length L, the eigenfunctions of the one-dimensional Laplacian are sin(π/2 + jπx/L). Their
    eigenvalues 1 - exp(-ε²/2 |jπ/L|²) increase with j/L for any ε, so a long side is cut several times before a short
    one is cut once. Functions of several sides are products, whose bits follow from those of the factors; the paper
    omits them.

    Args:
        lengths: (p,) side lengths of the box, above 0.
        k: number of eigenfunctions.

    Returns:
        The side of each eigenfunction, int64 (k,), and its mode j >= 1, int64 (k,), in ascending order of j/L; ties are
        ordered by side.
    """
    modes = torch.arange(1, k + 1, dtype=torch.float64, device=lengths.device)
    frequencies = modes[:, None] / lengths.double()
    order = frequencies.flatten().argsort(stable=True)[:k]
    return order % len(lengths), order // len(lengths) + 1


@final
class SH(Projection):
    """Spectral hashing: learns sines along the principal components, the best codes of data that fill a box uniformly.

    The best codes of a neighbour graph are eigenvectors of its Laplacian, thresholded at 0. For a uniform distribution
    over a box they have a closed form, which also applies to new items. SH uses the box around the principal
    components. A wide component is cut several times, into stripes, before a narrow one is cut once.
    Known weakness: real data are not uniform, and stripes give items at the two ends of a component the same bit.

    Shape:
        features (n, d) → projections (n, k), in [-1, 1].

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit. min(k, d) components are used, as in the authors' code.

    Raises:
        InvalidInputError: in `fit`, all rows are the same.

    References:
        Weiss, Torralba & Fergus, "Spectral hashing", NIPS 2008.
    """

    minimum_rows: ClassVar[int] = 2
    fits_on_shares: ClassVar[bool] = True

    mean: Tensor
    start: Tensor
    side: Tensor
    frequency: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        components = min(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("start", torch.zeros(components))
        self.register_buffer("side", torch.zeros(output_dim, dtype=torch.int64))
        self.register_buffer("frequency", torch.zeros(output_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, components))

    def forward(self, features: Tensor) -> Tensor:
        """sin(π/2 + jπ(z - a)/(b - a)) of each chosen component z and mode j, where a and b are the ends of the box."""
        offsets = project_centred(features, self.mean, self.directions) - self.start
        return torch.cos(offsets[:, self.side] * self.frequency)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, self.directions.shape[1])
        p = len(variances)
        if p == 0:
            raise InvalidInputError(
                f"all {len(features)} training rows are the same, so SH finds no direction in which they vary; give "
                "data that vary."
            )
        # Directions without variance stay 0 and are never chosen.
        self.mean.copy_(mean)
        self.directions.zero_()
        self.directions[:, :p] = components.to(self.directions)
        low, high = _find_ends(features, self.mean, self.directions)
        side, mode = smallest_modes((high - low)[:p], self.output_dim)
        self.start.copy_(low)
        self.side.copy_(side)
        self.frequency.copy_(mode.double() * math.pi / (high - low)[side].double())


def _find_ends(features: Tensor, mean: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value of each component over the training rows."""
    low, high = [], []
    for block in torch.split(features, BLOCK_ROWS):
        projections = project_centred(block, mean, directions)
        low.append(projections.amin(0))
        high.append(projections.amax(0))
    return min_over_processes(torch.stack(low).amin(0)), max_over_processes(torch.stack(high).amax(0))
