"""J, by which NPQ and VBQ judge the thresholds of one dimension: do neighbours fall into the same region?

A pair of training items in the same region counts as found. With P pairs of neighbours, and regions that hold c pairs,
t of them neighbours, F1 = 2t / (c + P). Both t and c are sums over regions, so a table of the neighbours among any run
of sorted items gives F1 of any thresholds at once, and lets an exact search be a dynamic programme.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.quantizers.threshold_encodings import threshold_between
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class NeighbourhoodObjective:
    """J = α·F1 + (1 - α)(1 - Ω) of the cuts of one dimension (Moran, Lavrenko & Osborne, SIGIR 2013).

    A cut is named by where it stands among the g distinct values: cut i, from 1 to g - 1, parts the i smallest from the
    rest. Ω is the squared distance from the regions' means, divided by that from the mean of all.

    Args:
        distinct: floating (g,), the distinct values, ascending.
        items: int64 (g + 1,), items below each cut; 0 first and n last.
        neighbours: int32 (g + 1, g + 1), entry (j, i) the pairs of neighbours between cuts i and j >= i.
        sums: float64 (g + 1,), sum of the values below each cut, measured from their mean.
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
        """How many cuts there are to choose from, g - 1."""
        return len(self.distinct) - 1

    @property
    def pairs_of_neighbours(self) -> int:
        """P."""
        return int(self.neighbours[-1, 0])

    def parts(self, cuts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F1's numerator and denominator, and 1 - Ω.

        Args:
            cuts: int64 (m, T), each row ascending, of m sets of cuts.

        Returns:
            2t, c + P and 1 - Ω, float64 (m,) each.
        """
        last = len(self.distinct)
        edges = torch.nn.functional.pad(torch.nn.functional.pad(cuts, (1, 0), value=0), (0, 1), value=last)
        lower, upper = edges[:, :-1], edges[:, 1:]
        held = (self.items[upper] - self.items[lower]).double()
        found = 2 * self.neighbours[upper, lower].double().sum(1)
        together = (held * (held - 1) / 2).sum(1) + self.pairs_of_neighbours
        between = ((self.sums[upper] - self.sums[lower]).square() / held.clamp_min(1)).sum(1)
        return found, together, between / self.scatter

    def __call__(self, cuts: Tensor) -> Tensor:
        """J of m sets of cuts, int64 (m, T) → float64 (m,)."""
        found, together, explained = self.parts(cuts)
        return self.f1_weight * found / together + (1 - self.f1_weight) * explained

    def f1(self, cuts: Tensor) -> Tensor:
        """F1 of m sets of cuts, int64 (m, T) → float64 (m,); without any cut where T = 0."""
        found, together, _ = self.parts(cuts)
        return found / together

    def thresholds(self, cuts: Tensor, count: int) -> Tensor:
        """Thresholds halfway between the values on either side of each cut.

        Args:
            cuts: int64 (T,), ascending, T <= count.
            count: how many to give; the last one is repeated where there are fewer cuts.
        """
        if not len(cuts):
            return self.distinct[-1:].expand(count)
        placed = threshold_between(self.distinct[cuts - 1], self.distinct[cuts])
        return torch.cat([placed, placed[-1:].expand(count - len(cuts))])


def neighbourhood_objective(values: Tensor, neighbours: Tensor, f1_weight: float = 1.0) -> NeighbourhoodObjective:
    """Count the neighbours between any two cuts, item by item in the order of the values.

    Args:
        values: floating (n,), projections of n items on one dimension.
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


def sampled_neighbours(
    affinity: TrainingAffinity, sample: int, method: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The affinity among a random sample of training items, all of them where they are no more.

    Args:
        affinity: among the n training items.
        sample: most items to take.
        method: name of the class, for the message.
        generator: of the draw.

    Returns:
        The m items' rows, int64 (m,), and their affinity, bool (m, m).

    Raises:
        InvalidInputError: no two of them are neighbours.
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
