"""Graph regularisation of bits (Moran & Lavrenko, ECIR 2015): neighbours smooth each other's bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track

# Entries of the affinity matrix per block, 64 MB of float64.
BLOCK_PAIRS = 2**23
# Float64 sums nearer to 0 than this count as 0, so that rounding, and thus the order of summation, decides no bit.
ROUNDING = 1e-9


def neighbour_counts(affinity: TrainingAffinity) -> Tensor:
    """Degrees of the neighbour graph, the diagonal of D: float64 (n,), 0 for an item without a label."""
    blocks = torch.split(torch.arange(len(affinity)), max(1, BLOCK_PAIRS // len(affinity)))
    return torch.cat([affinity.among(rows).sum(1) for rows in track(blocks, "Neighbour graph")]).double()


def graph_step(affinity: TrainingAffinity, degrees: Tensor, bits: Tensor, initial: Tensor, alpha: float) -> Tensor:
    """Compute L ← sgn(α S D⁻¹ L + (1 - α) L₀), with bits ±1 and sgn(0) = 1.

    An item without a label has no neighbours, not even itself, and gets its initial bits. A bit that the graph makes
    equal for all items would be useless, so it is left unchanged.

    Args:
        affinity: S, among n items.
        degrees: diagonal of D, (n,), from `neighbour_counts`.
        bits: L, bool (n, b).
        initial: L₀, bool (n, b).
        alpha: α, from 0 (only L₀) to 1 (no L₀).

    Returns:
        bool (n, b), on the device of `bits`.
    """
    weighted = torch.where(bits, 1.0, -1.0).cpu().double() * (alpha / degrees.clamp_min(1))[:, None]
    start = torch.where(initial, 1.0, -1.0).cpu().double() * (1 - alpha)
    smoothed = torch.empty_like(bits, device="cpu")
    blocks = torch.split(torch.arange(len(bits)), max(1, BLOCK_PAIRS // len(bits)))
    for rows in track(blocks, "Graph step"):
        smoothed[rows] = torch.addmm(start[rows], affinity.among(rows).double(), weighted) >= -ROUNDING
    smoothed = torch.where((degrees == 0)[:, None], initial.cpu(), smoothed).to(bits.device)
    constant = smoothed.all(0) | ~smoothed.any(0)
    return torch.where(constant, bits, smoothed)


def regularise(
    affinity: TrainingAffinity, initial: Tensor, alpha: float, rounds: int, learn: Callable[[Tensor], Tensor]
) -> None:
    """Alternate the graph step with learning the bits from the features (Moran & Lavrenko, 2015).

    Args:
        affinity: affinity among the n items.
        initial: bits L₀, bool (n, b).
        alpha: weight of the neighbours' bits.
        rounds: number of rounds.
        learn: fits hyperplanes to bits (n, b) and returns the bits that they assign to the items.
    """
    degrees = neighbour_counts(affinity)
    bits = initial
    for _ in range(rounds):
        bits = learn(graph_step(affinity, degrees, bits, initial, alpha))
