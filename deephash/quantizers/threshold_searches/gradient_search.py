"""Thresholds by gradient: J of soft regions, whose temperature falls until regions are hard."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deephash.functional.annealing import geometric
from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective
from deephash.quantizers.soft_regions import soft_regions
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.quantizers.threshold_searches.evolutionary_search import place_cuts
from deephash.validation import check_count

# First and last temperature of the sigmoids, as fractions of the distinct values.
TEMPERATURES = 0.05, 0.005
# Lower bounds of these temperatures, as numbers of groups.
WIDTHS = 1.0, 0.5
# First and last learning rate of the thresholds, as fractions of the distinct values.
STEPS = 0.02, 0.001
# A climb sees the values in this many groups; the final cuts are chosen among all values.
GROUPS = 128
# Number of climbs that are settled: soft J hardly distinguishes some results that hard J does.
SETTLED = 3


@dataclass(frozen=True)
class GroupedPairs:
    """A projection in groups of neighbouring values: the input of soft J, independent of the number of items.

    Args:
        places: float64 (m,), position of each group's middle among the distinct values, from 0 to 1.
        items: float64 (m,), number of items in each group.
        sums: float64 (m,), sum over each group of value - mean of all values.
        neighbours: float64 (m, m), symmetric, pairs of neighbours between two groups, and twice those within one group.
    """

    places: Tensor
    items: Tensor
    sums: Tensor
    neighbours: Tensor


def group_pairs(objective: NeighbourhoodObjective, groups: int) -> GroupedPairs:
    """Form groups of nearly equal numbers of distinct values; each of one value if there are too few values."""
    values = len(objective.distinct)
    edges = torch.linspace(0, values, min(groups, values) + 1, dtype=torch.float64).round().long()
    # Pairs in every run are known; those between two groups follow by inclusion and exclusion.
    within = objective.neighbours[edges][:, edges].double()
    within = within + within.T
    between = within[1:, :-1] - within[1:, 1:] - within[:-1, :-1] + within[:-1, 1:]
    return GroupedPairs(
        places=(edges[1:] + edges[:-1]).double() / (2 * values),
        items=objective.items[edges].diff().double(),
        sums=objective.sums[edges].diff(),
        neighbours=between,
    )


def soft_objective(objective: NeighbourhoodObjective, pairs: GroupedPairs, membership: Tensor) -> Tensor:
    """Compute J of soft regions as `soft_f1` and `soft_explained_variance` do, with one membership per group.

    Args:
        objective: objective of the projection, for P, the scatter and α.
        pairs: its groups.
        membership: float64 (..., m, R) of the groups.

    Returns:
        (...); exactly J if all memberships are 0 or 1.
    """
    # One product for all starts and regions. It counts each pair twice, so this is 2t.
    matched: Tensor = (membership * torch.tensordot(membership, pairs.neighbours, ([-2], [0])).mT).sum((-2, -1))
    weighted = pairs.items[:, None] * membership
    counts = weighted.sum(-2)
    together = (counts.square() - (weighted * membership).sum(-2)).sum(-1) / 2
    f1: Tensor = matched / (together + objective.pairs_of_neighbours)
    if objective.f1_weight == 1:
        return f1
    between = (pairs.sums[:, None] * membership).sum(-2).square() / counts.clamp_min(torch.finfo(counts.dtype).eps)
    return objective.f1_weight * f1 + (1 - objective.f1_weight) * between.sum(-1) / objective.scatter


def climb(objective: NeighbourhoodObjective, pairs: GroupedPairs, places: Tensor, steps: int) -> Tensor:
    """Move thresholds up the gradient of soft J as the temperature falls, all starts side by side.

    Args:
        objective: objective of the projection.
        pairs: its groups.
        places: float64 (s, T), initial thresholds, as fractions of the distinct values.
        steps: steps of Adam.

    Returns:
        float64 (s, T), ascending.
    """
    places = places.clone().requires_grad_()
    optimizer = torch.optim.Adam([places], lr=STEPS[0], maximize=True)
    values = pairs.places.expand(len(places), -1)
    # Sigmoids much narrower than the groups would have no gradient between them.
    warmest, coldest = (
        max(share, width / len(pairs.places)) for share, width in zip(TEMPERATURES, WIDTHS, strict=True)
    )
    for step in range(steps):
        progress = step / max(1, steps - 1)
        temperature = geometric(warmest, coldest, progress)
        for group in optimizer.param_groups:
            group["lr"] = geometric(*STEPS, progress)
        optimizer.zero_grad()
        soft_objective(objective, pairs, soft_regions(values, places, temperature)).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            places.clamp_(0, 1)
    return places.detach().sort(1).values


def settle(objective: NeighbourhoodObjective, cuts: Tensor) -> Tensor:
    """Move each cut in turn to the best place between its neighbours, as long as J rises.

    Args:
        objective: J.
        cuts: int64 (T,), ascending.

    Returns:
        int64 (T,), ascending; moving any single cut does not raise J.
    """
    cuts = cuts.clone()
    best = float(objective(cuts[None]))
    improved = True
    while improved:
        improved = False
        for t in range(len(cuts)):
            low = int(cuts[t - 1]) + 1 if t else 1
            high = int(cuts[t + 1]) - 1 if t + 1 < len(cuts) else objective.cuts
            moved = cuts.repeat(high - low + 1, 1)
            moved[:, t] = torch.arange(low, high + 1)
            scores = objective(moved)
            if float(scores.max()) > best:
                best, cuts, improved = float(scores.max()), moved[scores.argmax()], True
    return cuts


@final
class GradientSearch(ThresholdSearch):
    """Adam on soft J from several starts, then a local search over hard cuts.

    J of hard regions is constant between any two values, so its gradient is 0. J of soft regions has a gradient
    everywhere: regions are differences of sigmoids, and the overlap of two memberships is the weight of a shared
    region. Thresholds are fractions of the distinct values, so that heavy tails take no room. They climb by Adam from
    several starts side by side, the first evenly spaced, the others random, while temperature and learning rate fall
    geometrically. Soft J sees 128 groups of neighbouring values, so the cost of a climb does not depend on the number
    of items. The best results then become hard cuts, each of which moves to the best place between its neighbours until
    none can improve.

    One threshold ends at the optimum. With more, moving a single threshold cannot raise J. J is higher than with
    `EvolutionarySearch` of default size, and with 7 thresholds or more the search costs less than `ExactSearch`; if α
    is below 1, either of these two may be better. Known weakness: 15 thresholds have many local optima.

    Args:
        starts: number of starts.
        steps: steps of Adam.

    Raises:
        InvalidInputError: a number is below 1.

    References:
        Objective: Moran, Lavrenko & Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013. Soft regions
        as in Yang et al., "Quantization networks", CVPR 2019; steps of Kingma & Ba, "Adam", ICLR 2015.
    """

    def __init__(self, starts: int = 16, steps: int = 50) -> None:
        super().__init__()
        check_count(starts, "starts")
        check_count(steps, "steps")
        self.starts = starts
        self.steps = steps

    @torch.enable_grad()
    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        # The first start is evenly spaced, so that one start does not depend on chance.
        even = torch.linspace(0, 1, count + 2, dtype=torch.float64)[None, 1:-1]
        drawn = torch.rand(self.starts - 1, count, generator=generator, dtype=torch.float64)
        pairs = group_pairs(objective, GROUPS)
        places = climb(objective, pairs, torch.cat([even, drawn]), self.steps)
        candidates = place_cuts(places, objective.cuts)
        best = objective(candidates).argsort(descending=True, stable=True)[:SETTLED]
        settled = torch.stack([settle(objective, cuts) for cuts in candidates[best]])
        return settled[objective(settled).argmax()]
