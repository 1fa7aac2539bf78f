"""The optimum that the stochastic search approximates, by dynamic programming over sorted projections."""

from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective
from deephash.quantizers.threshold_searches.base import ThresholdSearch


def find_partition(objective: NeighbourhoodObjective, count: int, weights: tuple[float, float, float]) -> Tensor:
    """Find the cuts that maximise Σ_regions a·(neighbours) + b·(pairs) + c·(sum²/items), int64 (count,)."""
    from deephash.quantizers.neighbour_regions import best_partition

    tables = objective.neighbours.numpy(), objective.items.numpy(), objective.sums.numpy()
    return torch.from_numpy(best_partition(*tables, weights, count))


def improve(objective: NeighbourhoodObjective, cuts: Tensor) -> Tensor:
    """Maximise J with F1 = N/D replaced by its first-order change at the current cuts, repeatedly while J rises.

    At N₀ and D₀ that change is (N - λD) / D₀, with λ = N₀ / D₀. For α = 1 these are the steps of Dinkelbach's method,
    and the last cuts maximise F1.

    Args:
        objective: J.
        cuts: int64 (T,), the start.

    Returns:
        int64 (T,), with a J at least that of the start.
    """
    score = float(objective(cuts[None]))
    while True:
        matched, together, _ = (float(part) for part in objective.parts(cuts[None]))
        ratio, share = matched / together, objective.f1_weight / together
        weights = (2 * share, -share * ratio, (1 - objective.f1_weight) / objective.scatter)
        proposed = find_partition(objective, len(cuts), weights)
        reached = float(objective(proposed[None]))
        if reached <= score:
            return cuts
        cuts, score = proposed, reached


def f1_optimum(objective: NeighbourhoodObjective, count: int) -> Tensor:
    """Return the cuts that maximise F1, starting from evenly filled regions, int64 (count,)."""
    even = torch.linspace(0, objective.cuts + 1, count + 2)[1:-1].long()
    return improve(replace(objective, f1_weight=1.0), even)


@final
class ExactSearch(ThresholdSearch):
    """All cuts for one threshold; Dinkelbach's method for several thresholds, each step a dynamic programme.

    F1 = N/D is a ratio of sums over regions, N = 2t and D = c + P. Given the best ratio λ so far, thresholds that
    maximise N - λD have a ratio above λ if any thresholds do; once the maximum is 0, none do (Dinkelbach, 1967). The
    maximum of a sum over regions follows from the best r - 1 regions below each cut, for r = 2, 3, ..., in O(T n²) time
    for T thresholds: every cut is tried, none is rounded to a grid.

    If α < 1, the search starts from the optima of F1 and of Ω. Each step maximises J with the ratio replaced by its
    first-order change at the current thresholds, as long as J rises. That is exact for one threshold. For more it is at
    least as good as either optimum, without a proof that it is the best.

    Known weakness: an optimum on training pairs is not an optimum on other pairs, especially if training pairs are few.

    References:
        Dinkelbach, "On nonlinear fractional programming", Management Science 13(7), 1967. Objective: Moran, Lavrenko &
        Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013.
    """

    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        if count == 1:
            single_cuts = torch.arange(1, objective.cuts + 1)[:, None]
            return single_cuts[objective(single_cuts).argmax()]
        optima = []
        if objective.f1_weight > 0:
            optima.append(improve(objective, f1_optimum(objective, count)))
        if objective.f1_weight < 1:
            optima.append(improve(objective, find_partition(objective, count, (0.0, 0.0, 1.0))))
        return max(optima, key=lambda cuts: float(objective(cuts[None])))
