"""The likelihood of neighbour pairs under inner products of codes, as in DPSH and DCMH."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def pair_likelihood(codes: Tensor, neighbours: Tensor, pairs: Tensor) -> Tensor:
    """Compute the negative log-likelihood, the mean of log(1 + exp θ) - s θ over pairs, with θ = u·v / 2.

    Args:
        codes: floating (n, l).
        neighbours: bool (n, n), s of each pair.
        pairs: bool (n, n), the pairs that count.

    Returns:
        A scalar; 0 if there is no pair.
    """
    theta = codes @ codes.T / 2
    costs = binary_cross_entropy_with_logits(theta, neighbours.to(theta), pairs.to(theta), reduction="sum")
    return costs / pairs.sum().clamp_min(1)
