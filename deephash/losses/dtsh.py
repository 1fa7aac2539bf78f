"""Deep supervised hashing with triplet labels (Wang, Shi & Kitani, ACCV 2016)."""

from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch

# Triplets per block: the few arrays of a block have 4 MB of float32 each, so that they stay in the cache.
BLOCK_TRIPLETS = 1 << 20


class _TripletSum(torch.autograd.Function):
    """Σ -log σ(θ_qi - θ_qj - α) over pairs (q, i) and all j that are not neighbours of q.

    The gradient is computed together with the sum, block by block, so that only one number per pair is kept.
    """

    @staticmethod
    def forward(theta: Tensor, queries: Tensor, near: Tensor, others: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        total, gradient = theta.new_zeros(()), torch.zeros_like(theta)
        rows = max(1, BLOCK_TRIPLETS // len(theta))
        for q, i in zip(torch.split(queries, rows), torch.split(near, rows), strict=True):
            differences = theta[q, i][:, None] - theta[q] - margin
            slopes = torch.sigmoid(-differences) * others[q]
            total -= (nn.functional.logsigmoid(differences) * others[q]).sum()
            gradient.index_add_(0, q, slopes)
            gradient[q, i] -= slopes.sum(1)  # Each pair (q, i) occurs once.
        return total, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        return gradient * ctx.saved_tensors[0], None, None, None, None


def triplet_likelihood(codes: Tensor, neighbours: Tensor, margin: float) -> Tensor:
    """Mean of -log σ(θ_qi - θ_qj - α) over triplets, with θ = u·v / 2, where i is a neighbour of q and j is not.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n).
        margin: α.

    Returns:
        A scalar; 0 if there is no triplet.
    """
    theta = codes @ codes.T / 2
    itself = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    others = ~neighbours & ~itself
    queries, near = (neighbours & ~itself).nonzero(as_tuple=True)
    total: Tensor = _TripletSum.apply(theta, queries, near, others, margin)[0]
    return total / others.sum(1)[queries].sum().clamp_min(1)


@final
class DTSH(Loss):
    """Deep hashing with triplet labels: makes each neighbour more similar than other items by a margin.

    The loss is the negative log-likelihood of all triplets of the batch: an item, a neighbour and another item.
    Similarity is half the inner product of codes. A second term keeps codes near bits.
    Known weakness: most triplets are right early and add little, and the cost of a step is proportional to their
    number: neighbour pairs times items.

    Shape:
        codes (n, l), neighbours (n, n) → scalar, at least 0.

    Args:
        margin: α, in units of half inner products (bits); None for l / 8, an eighth of the code length. The paper's
            l / 2 is for outputs of any size. Codes here are bounded, and the codes of several classes cannot all be
            apart by more than l / 2 (docs/methods/dtsh.md).
        eta: weight of the squared distance between codes and their bits, λ in the paper. The paper sums and this loss
            averages: the paper's 100 for batches of 128 items of ten classes corresponds to about 1 at 12 bits and 3 at
            48 bits.

    Raises:
        InvalidInputError: margin or eta is below 0.

    References:
        Wang, Shi & Kitani, "Deep supervised hashing with triplet labels", ACCV 2016.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, margin: float | None = None, eta: float = 1.0) -> None:
        super().__init__()
        for name, value in (("margin", 0.0 if margin is None else margin), ("eta", eta)):
            check_weight(value, name)
        self.margin, self.eta = margin, eta

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Negative log-likelihood of the triplets, plus the weighted quantisation error."""
        assert batch.neighbours is not None
        margin = batch.codes.shape[1] / 8 if self.margin is None else self.margin
        quantisation = (batch.codes.abs() - 1).square().mean()
        return triplet_likelihood(batch.codes, batch.neighbours, margin) + self.eta * quantisation
