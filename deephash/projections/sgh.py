"""Scalable graph hashing with feature transformation (Jiang & Li, IJCAI 2015)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import AnchorMap
from deephash.functional.generalised_eigenproblem import largest_direction, whitening
from deephash.functional.principal_components import BLOCK_ROWS, feature_mean
from deephash.functional.row_products import row_products
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.functional.single_thread import single_thread
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import check_count

# ρ of S = exp(-‖x - y‖² / ρ) is twice the largest ‖x‖², so that 2xᵀy/ρ lies in [-1, 1] (section 3.1).
RHO = 2.0


def transformed_features(features: Tensor) -> Tensor:
    """Features F whose inner products are twice the graph similarities: F Fᵀ ≈ 2S, S = exp(-‖x - y‖² / ρ) (Eq. 3).

    S is exp(-‖x‖²/ρ) exp(-‖y‖²/ρ) exp(t) with t = 2xᵀy/ρ in [-1, 1]. On this interval exp(t) is replaced by its chord,
    (e² - 1)/(2e) t + (e² + 1)/(2e), which is linear in xᵀy. Its error is at most 0.56, and that of S at most 0.21 for
    items of length 1.

    Args:
        features: floating (n, d), of length at most 1.

    Returns:
        (n, d + 1).
    """
    slope, height = math.sinh(1), math.cosh(1)
    shrunk = torch.exp(features.square().sum(1, keepdim=True) / -RHO)
    return torch.cat([(4 * slope / RHO) ** 0.5 * features, (2 * height) ** 0.5 * torch.ones_like(shrunk)], 1) * shrunk


def sequential_directions(
    kernel: Tensor, similarity: Tensor, bits: int, rounds: int, generator: torch.Generator
) -> Tensor:
    """Learn hash functions sign(K w) one by one, each for the residual of c S̃ that the others leave (Algorithm 1).

    The inner products Σ b bᵀ of the codes fit c S̃, where c is the number of bits. A bit is learnt without its sign, as
    an eigenvector, while the other bits enter with their signs. After the first pass, bits are learnt again in random
    order.

    Args:
        kernel: K, floating (n, m), centred.
        similarity: Kᵀ S̃ K, float64 (m, m).
        bits: number of bits c.
        rounds: number of passes after the first.
        generator: CPU generator of the order.

    Returns:
        float64 (m, c).
    """
    gram = row_products(kernel, kernel)
    agreement = bits * similarity
    directions = torch.zeros(bits, kernel.shape[1], dtype=torch.float64, device=kernel.device)
    aligned = torch.zeros_like(directions)
    order = [*range(bits), *(bit for _ in range(rounds) for bit in torch.randperm(bits, generator=generator).tolist())]
    with single_thread():
        whitened = whitening(gram)
        for bit in track(order, "SGH"):
            agreement += torch.outer(aligned[bit], aligned[bit])
            directions[bit] = largest_direction(agreement, whitened)
            signs = torch.where(kernel @ directions[bit].to(kernel.dtype) >= 0, 1, -1).to(kernel.dtype)
            aligned[bit] = row_products(kernel, signs[:, None])[:, 0]
            agreement -= torch.outer(aligned[bit], aligned[bit])
    return directions.T


@final
class SGH(Projection):
    """Scalable graph hashing: learns kernel hyperplanes whose codes fit the similarities of all pairs, without a graph.

    The Gaussian similarity of two items of length 1 is nearly linear in their inner product. The whole n × n similarity
    matrix is therefore a product of two thin matrices, and learning a bit costs only order n operations. Bits are
    learnt one after another, each for the residual of the previous ones. Features are centred and scaled to length 1,
    which the approximation requires; the authors' program does not scale them.
    Known weakness: on features of length 1, the linear approximation only keeps the order of inner products, so that
    distant items count as much as near ones; and the length of an item is lost.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the c of the paper.
        anchors: number of kernel bases m; 300 as in the paper. `fit` lowers it to the number of training items.
        selection: "random" for random training items as in the paper, or "kmeans" for centres of clusters.
        rounds: number of passes after the first in which bits are learnt again; 1 as in the authors' code.

    Raises:
        InvalidInputError: anchors or rounds is below 1, or the selection is unknown; in `fit`, all rows are the same.

    References:
        Jiang & Li, "Scalable graph hashing with feature transformation", IJCAI 2015.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True
    fits_on_shares: ClassVar[bool] = True

    mean: Tensor
    kernel_mean: Tensor

    def __init__(
        self, input_dim: int, output_dim: int, anchors: int = 300, selection: str = "random", rounds: int = 1
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        self.kernel = AnchorMap(input_dim, anchors, selection)
        self.anchors = anchors
        self.selection = selection
        self.rounds = rounds
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("kernel_mean", torch.zeros(anchors))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(κ(x / ‖x‖) - μ) W of centred features x, where κ are the kernel values with the anchors."""
        values: Tensor = self.kernel(self._normalise(features))
        return (values - self.kernel_mean) @ self.weights

    def _normalise(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features.to(self.mean.dtype) - self.mean, dim=1)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        self.mean.copy_(feature_mean(features))
        directions = torch.empty(features.shape, dtype=self.mean.dtype, device=features.device)
        for values, block in zip(torch.split(directions, BLOCK_ROWS), torch.split(features, BLOCK_ROWS), strict=True):
            values.copy_(self._normalise(block))
        self.anchors = self.kernel.fit(directions, generator).anchors
        m = self.anchors
        kernel = torch.empty(len(features), m, dtype=directions.dtype, device=directions.device)
        for values, block in zip(torch.split(kernel, BLOCK_ROWS), torch.split(directions, BLOCK_ROWS), strict=True):
            values.copy_(self.kernel(block))
        self.kernel_mean = feature_mean(kernel).to(self.mean.dtype)
        kernel -= self.kernel_mean
        # S̃ = 2S - 1; because K is centred, its product with the constant is 0.
        transformed = torch.zeros(m, features.shape[1] + 1, dtype=torch.float64, device=kernel.device)
        for values, block in zip(torch.split(kernel, BLOCK_ROWS), torch.split(directions, BLOCK_ROWS), strict=True):
            transformed += values.T @ transformed_features(block)
        del directions
        transformed = sum_over_processes(transformed)
        similarity = transformed @ transformed.T
        weights = sequential_directions(kernel, similarity, self.output_dim, self.rounds, generator)
        # Scale from unit length to unit variance over the training items.
        self.weights = nn.Parameter((weights * count_rows(features) ** 0.5).to(self.mean.dtype))
