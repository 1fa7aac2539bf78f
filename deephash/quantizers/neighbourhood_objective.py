"""J, the objective of NPQ and VBQ: it measures whether the thresholds of one projection keep neighbours in one region.

A pair of training items in one region is a predicted match. With P pairs of neighbours, and regions that contain c
pairs, t of them neighbours, F1 = 2t / (c + P). Both t and c are sums over regions, so a table of the neighbours in
every run of sorted items gives F1 of any thresholds, and an exact search can use dynamic programming.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.quantizers.threshold_encodings import threshold_between
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class NeighbourhoodObjective:
    """J = α·F1 + (1 - α)(1 - Ω) of the cuts of one projection (Moran, Lavrenko & Osborne, SIGIR 2013).

    A cut is a position among the g distinct values: cut i, from 1 to g - 1, separates the i smallest from the rest. Ω
    is the squared distance of values from the means of their regions, divided by that from the mean of all values.

    Args:
        distinct: floating (g,), the distinct values, ascending.
        items: int64 (g + 1,), items below each cut; 0 first and n last.
        neighbours: int32 (g + 1, g + 1), entry (j, i) the pairs of neighbours between cuts i and j >= i.
        sums: float64 (g + 1,), sum over the values below each cut of value - mean of all values.
        scatter: squared distance of all values from their mean.
        f1_weight: α.
    """

    distinct: Tensor
    items: Tensor
    neighbours: Tensor
    sums: Tensor
    scatter: float
    f1_weight: float

    @property
    def cuts(self) -> int:
        """Number of cuts to choose from, g - 1."""
        return len(self.distinct) - 1

    @property
    def pairs_of_neighbours(self) -> int:
        """Number of pairs of neighbours, P."""
        return int(self.neighbours[-1, 0])

    def parts(self, cuts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the numerator and the denominator of F1, and 1 - Ω.

        Args:
            cuts: int64 (m, T), m sets of cuts, each row ascending.

        Returns:
            2t, c + P and 1 - Ω, float64 (m,) each.
        """
        last = len(self.distinct)
        edges = torch.nn.functional.pad(torch.nn.functional.pad(cuts, (1, 0), value=0), (0, 1), value=last)
        lower, upper = edges[:, :-1], edges[:, 1:]
        counts = (self.items[upper] - self.items[lower]).double()
        matched = 2 * self.neighbours[upper, lower].double().sum(1)
        together = (counts * (counts - 1) / 2).sum(1) + self.pairs_of_neighbours
        between = ((self.sums[upper] - self.sums[lower]).square() / counts.clamp_min(1)).sum(1)
        return matched, together, between / self.scatter

    def __call__(self, cuts: Tensor) -> Tensor:
        """Return J of m sets of cuts, int64 (m, T) → float64 (m,)."""
        matched, together, explained = self.parts(cuts)
        return self.f1_weight * matched / together + (1 - self.f1_weight) * explained

    def f1(self, cuts: Tensor) -> Tensor:
        """Return F1 of m sets of cuts, int64 (m, T) → float64 (m,); T = 0 means a single region."""
        matched, together, _ = self.parts(cuts)
        return matched / together

    def thresholds(self, cuts: Tensor, count: int) -> Tensor:
        """Return thresholds halfway between the values on either side of each cut.

        Args:
            cuts: int64 (T,), ascending, T <= count.
            count: number of thresholds; the last one is repeated if there are fewer cuts.
        """
        if not len(cuts):
            return self.distinct[-1:].expand(count)
        placed = threshold_between(self.distinct[cuts - 1], self.distinct[cuts])
        return torch.cat([placed, placed[-1:].expand(count - len(cuts))])


def neighbourhood_objective(values: Tensor, neighbours: Tensor, f1_weight: float = 1.0) -> NeighbourhoodObjective:
    """Build the objective of one projection by counting the neighbours between any two cuts.

    Args:
        values: floating (n,), projections of n items on one direction.
        neighbours: bool (n, n), symmetric; the diagonal is not read.
        f1_weight: α, from 0 to 1.
    """
    from deephash.quantizers.neighbour_regions import neighbours_within

    values = values.cpu()
    order = values.argsort(stable=True)
    distinct, counts = torch.unique_consecutive(values[order], return_counts=True)
    items = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    within = torch.from_numpy(neighbours_within(neighbours.numpy(), order.numpy()))
    if len(distinct) < len(values):
        within = within[items][:, items]
    centred = values[order].double()
    centred -= centred.mean()
    sums = torch.cat([centred.new_zeros(1), centred.cumsum(0)])[items]
    scatter = max(float(centred.square().sum()), torch.finfo(torch.float64).tiny)
    return NeighbourhoodObjective(distinct, items, within, sums, scatter, f1_weight)


def sample_neighbours(
    affinity: TrainingAffinity, sample: int, method: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the affinity among a random sample of training items, or among all of them if they are few enough.

    Args:
        affinity: affinity among the n training items.
        sample: maximum number of items.
        method: name of the class, for the message.
        generator: generator of the draw.

    Returns:
        The rows of the m items, int64 (m,), and their affinity, bool (m, m).

    Raises:
        InvalidInputError: no two items of the sample are neighbours.
    """
    n = len(affinity)
    rows = torch.arange(n) if n <= sample else torch.randperm(n, generator=generator)[:sample].sort().values
    neighbours = affinity.subset(rows).among(torch.arange(len(rows))).clone()
    if not bool(neighbours.fill_diagonal_(False).any()):
        raise InvalidInputError(
            f"no two of {len(rows)} training items are neighbours, so {method} has no pairs to preserve; give "
            "supervision with more neighbours, or raise the sample."
        )
    return rows, neighbours
