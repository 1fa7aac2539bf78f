"""The loss of DCHMT, differentiable cross-modal hashing via multimodal transformers (Tu et al., ACM MM 2022)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_fraction


def squared_selection_distances(first: Tensor, second: Tensor) -> Tensor:
    """Squared Euclidean distance between the selections of two codes, (n, l) and (m, l) → (n, m).

    The selection of a bit u is the pair of probabilities (1 ∓ u) / 2 of 0 and 1. Selections at Hamming distance d are
    at squared distance 2 d.
    """
    norms = first.square().sum(1)[:, None] + second.square().sum(1)
    return (norms - 2 * first @ second.T).clamp_min(0) / 2


def similarity_costs(squares: Tensor, neighbours: Tensor, furthest: float) -> Tensor:
    """Cost of each pair: d² for neighbours, and max(0, δ - d)² for others.

    Args:
        squares: squared distances d², floating, at least 0.
        neighbours: bool, of the same shape.
        furthest: δ, the distance beyond which items that are not neighbours cost nothing.

    Returns:
        Costs of the same shape. At d = 0, where the distance has no slope, the gradient is 0.
    """
    apart = squares > 0
    distances = torch.where(apart, squares, 1.0).sqrt() * apart
    return torch.where(neighbours, squares, (furthest - distances).clamp_min(0).square())


@final
class DCHMT(Loss):
    """DCHMT's loss: pulls neighbours together and others a number of bits apart, across views and within each.

    Distances are Euclidean, between the probabilities by which each bit selects 0 or 1; `relaxation=two_way_selection`
    is the paper's layer that selects. Items with a label in common are neighbours. The loss is the sum of three terms,
    across views and within each view, so it serves all four directions of search. Codes become hard bits by the
    distances themselves, without a term of quantisation.
    Known weakness: a pair either is or is not a pair of neighbours; the number of common labels does not matter. Most
    pairs are not neighbours, and dominate. The paper trains the transformers of CLIP with it; the loss takes codes of
    any encoder.

    Shape:
        codes (n, l) of both views, neighbours (n, n), views (n,) → scalar, at least 0.

    Args:
        error_rate: ϑ, the share of differing bits beyond which items that are not neighbours cost nothing; 0.5 as in
            the authors' code, since codes of random bits differ in half of them.

    Raises:
        InvalidInputError: error_rate is outside [0, 1].

    References:
        Tu, Liu, Lin, Hong & Wang, "Differentiable cross-modal hashing via multimodal transformers", ACM MM 2022,
        with the Euclidean distance and the squared costs of the authors' code.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours", "two_views"})

    def __init__(self, error_rate: float = 0.5) -> None:
        super().__init__()
        check_fraction(error_rate, "error_rate")
        self.error_rate = error_rate

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Sum of the mean costs across views and within each view, per bit."""
        assert batch.neighbours is not None
        assert batch.views is not None
        codes, views = batch.codes, batch.views
        furthest = (2 * codes.shape[1] * self.error_rate) ** 0.5
        costs = similarity_costs(squared_selection_distances(codes, codes), batch.neighbours, furthest)
        within = [
            masked_mean(costs, (views == view)[:, None] & (views == view) & batch.others)
            for view in views.unique()  # type: ignore[no-untyped-call]
        ]
        return (masked_mean(costs, batch.across) + torch.stack(within).sum()) / codes.shape[1]
