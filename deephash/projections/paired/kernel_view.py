"""The kernel projection of one of two views; a paired fit sets it."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import squared_distances
from deephash.projections.base import Projection
from deephash.projections.paired.linear_view import SET_BY_PAIR
from deephash.validation import InvalidInputError, check_count


def gaussian_kernel(features: Tensor, anchors: Tensor, bandwidth: Tensor) -> Tensor:
    """exp(-‖x - a‖² / 2σ²) of every row and anchor, (n, d) and (m, d) → (n, m)."""
    return torch.exp(-squared_distances(features, anchors) / (2 * bandwidth**2))


@final
class KernelView(Projection):
    """Kernel map (K(X, A) - κ) W + o, Gaussian with m anchors A, learnt with the other view; `fit` raises an error."""

    kernel_mean: Tensor

    def __init__(self, input_dim: int, output_dim: int, anchors: int) -> None:
        super().__init__(input_dim, output_dim)
        check_count(anchors, "anchors")
        self.anchors = anchors
        self.register_buffer("kernel_mean", torch.zeros(anchors))
        self.anchor_rows = nn.Parameter(torch.zeros(anchors, input_dim))
        self.bandwidth = nn.Parameter(torch.ones(()))
        self.coefficients = nn.Parameter(torch.zeros(anchors, output_dim))
        self.offsets = nn.Parameter(torch.zeros(output_dim))

    def kernel(self, features: Tensor) -> Tensor:
        """K(X, A) - κ, (n, m)."""
        return gaussian_kernel(features, self.anchor_rows, self.bandwidth) - self.kernel_mean

    def forward(self, features: Tensor) -> Tensor:
        """(K(X, A) - κ) W + o."""
        return self.kernel(features) @ self.coefficients + self.offsets

    @torch.no_grad()
    def set_kernel(self, anchor_rows: Tensor, bandwidth: float) -> None:
        """Set anchors (m, d) and the bandwidth, and κ to 0; fewer anchors lower m."""
        if len(anchor_rows) != self.anchors:
            self.anchors = len(anchor_rows)
            self.kernel_mean = self.kernel_mean.new_zeros(self.anchors)
            self.anchor_rows = nn.Parameter(self.anchor_rows.new_zeros(self.anchors, self.input_dim))
            self.coefficients = nn.Parameter(self.coefficients.new_zeros(self.anchors, self.output_dim))
        self.anchor_rows.copy_(anchor_rows)
        self.bandwidth.fill_(bandwidth)
        self.kernel_mean.zero_()

    @torch.no_grad()
    def set_weights(self, coefficients: Tensor, offsets: Tensor) -> None:
        """Set coefficients (m, k) and offsets (k,) for the current kernel."""
        self.coefficients.copy_(coefficients)
        self.offsets.copy_(offsets)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        raise InvalidInputError(SET_BY_PAIR)
