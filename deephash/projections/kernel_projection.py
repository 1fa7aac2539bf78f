"""The base class of kernel hyperplanes: linear maps of centred kernel values with anchors."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from deephash.encoders.anchor_map import AnchorMap
from deephash.projections.base import Projection


class KernelProjection(Projection):
    """Kernel hyperplanes (κ(X) - μ) W, where κ are Gaussian kernel values with m anchors, selected as in `AnchorMap`.

    Subclasses implement `_fit`. It lowers `anchors` to the number of training items if there are fewer.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int, anchors: int, selection: str) -> None:
        super().__init__(input_dim, output_dim)
        self.kernel = AnchorMap(input_dim, anchors, selection)
        self.anchors = anchors
        self.register_buffer("mean", torch.zeros(anchors))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(κ(X) - μ) W."""
        values: Tensor = self.kernel(features)
        return (values - self.mean) @ self.weights

    def _fit_kernel(self, features: Tensor, generator: torch.Generator, block_rows: int) -> Tensor:
        """Choose anchors, bandwidth and mean, and return the centred kernel values (n, m)."""
        self.anchors = self.kernel.fit(features, generator).anchors
        kernel = torch.cat([self.kernel(block) for block in torch.split(features, block_rows)])
        self.mean = kernel.mean(0, dtype=torch.float64).to(self.mean.dtype)
        kernel -= self.mean
        return kernel
