"""Thresholds by gradient: J of soft regions, whose temperature falls until regions are hard."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deephash.functional.annealing import geometric
from deephash.quantizers.neighbourhood_objective import NeighbourhoodObjective
from deephash.quantizers.soft_regions import soft_regions
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.quantizers.threshold_searches.evolutionary_search import cuts_at
from deephash.validation import check_count

# Temperature of the sigmoids, and step of the thresholds, in shares of the distinct values: first and last.
TEMPERATURES = 0.05, 0.005
# The least of them, in groups.
WIDTHS = 1.0, 0.5
STEPS = 0.02, 0.001
# Each climb sees the values in this many groups of neighbouring ones; the cuts it leads to are chosen among all.
GROUPS = 128
# Soft J rates ends of climbs nearly alike that hard J does not, so more than one is settled.
SETTLED = 3


@dataclass(frozen=True)
class GroupedPairs:
    """A dimension in groups of neighbouring values: what soft J needs, whatever the number of items.

    Args:
        places: float64 (m,), where a group's middle lies among the distinct values, from 0 to 1.
        items: float64 (m,), its items.
        sums: float64 (m,), the sum of its values, measured from the mean of all.
        neighbours: float64 (m, m), symmetric, pairs of neighbours between two groups, and twice those within one.
    """

    places: Tensor
    items: Tensor
    sums: Tensor
    neighbours: Tensor


def grouped_pairs(objective: NeighbourhoodObjective, groups: int) -> GroupedPairs:
    """Groups of as many distinct values each, but for one; single values where there are no more than groups."""
    values = len(objective.distinct)
    edges = torch.linspace(0, values, min(groups, values) + 1, dtype=torch.float64).round().long()
    # Pairs in any run are known; those between two groups are what the run over both has beyond its parts.
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
    """J of soft regions: as of `soft_f1` and `soft_explained_variance`, from groups of items that share a membership.

    Args:
        objective: of the dimension, for P, the scatter and α.
        pairs: its groups.
        membership: float64 (..., m, R) of the groups.

    Returns:
        (...), J exactly where memberships are 0 and 1.
    """
    # One product for all starts and regions. Each pair counts twice in it, so this is 2t.
    found: Tensor = (membership * torch.tensordot(membership, pairs.neighbours, ([-2], [0])).mT).sum((-2, -1))
    weighted = pairs.items[:, None] * membership
    held = weighted.sum(-2)
    together = (held.square() - (weighted * membership).sum(-2)).sum(-1) / 2
    f1: Tensor = found / (together + objective.pairs_of_neighbours)
    if objective.f1_weight == 1:
        return f1
    between = (pairs.sums[:, None] * membership).sum(-2).square() / held.clamp_min(torch.finfo(held.dtype).eps)
    return objective.f1_weight * f1 + (1 - objective.f1_weight) * between.sum(-1) / objective.scatter


def climb(objective: NeighbourhoodObjective, pairs: GroupedPairs, places: Tensor, steps: int) -> Tensor:
    """Thresholds moved up the gradient of soft J while it cools, all starts side by side.

    Args:
        objective: of the dimension.
        pairs: its groups.
        places: float64 (s, T), thresholds to start from, as shares of the distinct values.
        steps: of Adam.

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
    """Each cut moved to the best place between its neighbours, in turn, as long as J rises.

    Args:
        objective: J.
        cuts: int64 (T,), ascending.

    Returns:
        int64 (T,), ascending; no other place of any one cut is better.
    """
    cuts = cuts.clone()
    best = float(objective(cuts[None]))
    rose = True
    while rose:
        rose = False
        for t in range(len(cuts)):
            low = int(cuts[t - 1]) + 1 if t else 1
            high = int(cuts[t + 1]) - 1 if t + 1 < len(cuts) else objective.cuts
            moved = cuts.repeat(high - low + 1, 1)
            moved[:, t] = torch.arange(low, high + 1)
            scores = objective(moved)
            if float(scores.max()) > best:
                best, cuts, rose = float(scores.max()), moved[scores.argmax()], True
    return cuts


@final
class GradientSearch(ThresholdSearch):
    """Thresholds that climb J's gradient: regions are soft at first, and harden as the climb cools.

    J of hard regions is flat between any two values and has no gradient. With regions that are differences of sigmoids,
    and pairs that are in a common region as far as their memberships overlap, it has one everywhere. Thresholds live in
    shares of the distinct values, so that heavy tails take no room. They climb by Adam from several starts side by
    side, the first of them even shares, the others random, while temperature and rate fall geometrically. Soft J looks
    at 128 groups of neighbouring values, so a climb costs the same whatever the number of items. The best ends then
    settle on hard cuts: each cut moves to the best of all places between its neighbours until none can.

    One threshold ends at the optimum. With more it reaches a J that no single threshold can better, above what
    `EvolutionarySearch` finds in its default size, and with 7 thresholds or more at less cost than `ExactSearch`; where
    α < 1 either of the two may be the better one. Known weakness: 15 thresholds have many local optima, and starts that
    end in them.

    Args:
        starts: climbs side by side.
        steps: of each climb.

    Raises:
        InvalidInputError: numbers below 1.

    References:
        Objective: Moran, Lavrenko & Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013. Soft regions
        as of Yang et al., "Quantization networks", CVPR 2019; steps of Kingma & Ba, "Adam", ICLR 2015.
    """

    def __init__(self, starts: int = 16, steps: int = 50) -> None:
        super().__init__()
        check_count(starts, "starts")
        check_count(steps, "steps")
        self.starts = starts
        self.steps = steps

    @torch.enable_grad()
    def _best_cuts(self, objective: NeighbourhoodObjective, count: int, generator: torch.Generator) -> Tensor:
        # Even shares first, which no draw can spoil.
        even = torch.linspace(0, 1, count + 2, dtype=torch.float64)[None, 1:-1]
        drawn = torch.rand(self.starts - 1, count, generator=generator, dtype=torch.float64)
        pairs = grouped_pairs(objective, GROUPS)
        places = climb(objective, pairs, torch.cat([even, drawn]), self.steps)
        candidates = cuts_at(places, objective.cuts)
        best = objective(candidates).argsort(descending=True, stable=True)[:SETTLED]
        settled = torch.stack([settle(objective, cuts) for cuts in candidates[best]])
        return settled[objective(settled).argmax()]
