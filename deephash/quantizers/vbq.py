"""Variable bit quantisation (Moran, Lavrenko & Osborne, ACL 2013)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.base import Quantizer
from deephash.quantizers.bit_allocations.base import BitAllocation, BitOptions
from deephash.quantizers.bit_allocations.knapsack import Knapsack
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective, sampled_neighbours
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import (
    bit_margins,
    encoded_bits,
    natural_binary_encoding,
    region_numbers,
    step_margins,
)
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.quantizers.threshold_searches.evolutionary_search import EvolutionarySearch
from deephash.ranking.distance import VariableManhattan
from deephash.validation import InvalidInputError, check_count

MAX_BITS = 8


@final
class VBQ(Quantizer):
    """As many bits for each dimension as it is worth: 0 to 4, by a knapsack over F1 under the budget.

    A dimension that keeps neighbours together is cut finely, one that does not is dropped. For each dimension and each
    number of bits q, 2^q - 1 thresholds are fitted as by NPQ with α = 1, and their F1 on training pairs is what q bits
    are worth there; 0 bits are worth the F1 of a single region, which takes all pairs for neighbours. The allocation of
    largest total that spends exactly b bits is found by dynamic programming, where the authors use a binary linear
    programme; another `allocator` may spend them otherwise. Regions are numbered in binary and ranked by Manhattan
    distance, to which a dimension of q bits adds up to 2^q - 1. Known weakness: dimensions that repeat each other are
    each given bits, unless `Gumbel` allocates them.

    Shape:
        projections (n, b) → bits (n, b): as many projections as bits, of which some get none.

    Args:
        bits: code length b, spent to the last bit.
        most_bits: the most a dimension can get, from 1 to 8.
        search: how F1 is maximised; None for `EvolutionarySearch()`, the authors' kind. `ExactSearch()` finds the best.
        pairs_sample: training items among which pairs are counted, drawn at random from more.
        relaxation: what stands for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.
        allocator: how bits are spent; None for `Knapsack()`, the authors' optimum. `Gumbel()` looks at codes whole.

    Raises:
        InvalidInputError: bits or most_bits out of range.

    References:
        Moran, Lavrenko & Osborne, "Variable bit quantisation for LSH", ACL 2013.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})

    allocation: Tensor

    def __init__(
        self,
        bits: int,
        most_bits: int = 4,
        search: ThresholdSearch | None = None,
        pairs_sample: int = 2000,
        relaxation: Relaxation | None = None,
        allocator: BitAllocation | None = None,
    ) -> None:
        super().__init__(bits)
        check_count(most_bits, "most_bits")
        if most_bits > MAX_BITS:
            raise InvalidInputError(f"most_bits={most_bits} exceeds {MAX_BITS}, the most bits a projection can have.")
        check_count(pairs_sample, "pairs_sample")
        self.most_bits = most_bits
        self.search = EvolutionarySearch() if search is None else search
        self.pairs_sample = pairs_sample
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.allocator = Knapsack() if allocator is None else allocator
        # Of a dimension with q bits the first 2^q - 1 count; the others stay 0.
        self.thresholds = nn.Parameter(torch.zeros(bits, 2**most_bits - 1))
        self.register_buffer("allocation", torch.ones(bits, dtype=torch.int64))

    @property
    def projection_dim(self) -> int:
        """As many projections as bits."""
        return self.bits

    @property
    def distance(self) -> VariableManhattan:
        """Manhattan distance of the regions' numbers, each with the bits of its dimension."""
        return VariableManhattan(tuple(self.allocation.tolist()))

    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits of each bit's distance from the nearest threshold at which it flips."""
        groups = self._groups(*self.in_units(projections, self.thresholds))
        margins = torch.cat([bit_margins(*group) for group in groups], 1)
        relaxed: Tensor = self.relaxation(margins[:, self._places()])
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """A relaxed step for each threshold, dimensions with fewer bits before those with more."""
        groups = self._groups(*self.in_units(projections, self.thresholds))
        steps = [step_margins(values, thresholds) for values, thresholds, _ in groups]
        relaxed: Tensor = self.relaxation(torch.cat(steps, 1))
        return relaxed

    def quantize(self, projections: Tensor) -> Tensor:
        """The bits of the regions that projections lie in."""
        bits = [encoded_bits(*group) for group in self._groups(projections, self.thresholds)]
        return torch.cat(bits, 1)[:, self._places()]

    def _groups(self, projections: Tensor, thresholds: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Projections, thresholds and encoding of the dimensions with 1 bit, with 2, ..., where there are any."""
        groups = []
        for q in range(1, self.most_bits + 1):
            dimensions = (self.allocation == q).nonzero().flatten()
            if len(dimensions):
                some = thresholds[dimensions, : 2**q - 1]
                groups.append((projections[:, dimensions], some, natural_binary_encoding(q)))
        return groups

    def _places(self) -> Tensor:
        """Where each bit of the code, dimension by dimension, stands among the bits of the groups, int64 (b,)."""
        owners = torch.repeat_interleave(self.allocation)
        # Groups hold their dimensions in order, so a stable sort by the number of bits gives the groups' bits.
        return self.allocation[owners].argsort(stable=True).argsort()

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        # Of few pairs, those that cut a dimension finely keep the best F1, and all bits go to few dimensions.
        rows, neighbours = sampled_neighbours(affinity.wide(), self.pairs_sample, "VBQ", generator)
        sample = projections[rows.to(projections.device)].cpu()
        counts = [2**q - 1 for q in range(self.most_bits + 1)]
        worth = torch.empty(self.projection_dim, self.most_bits + 1, dtype=torch.float64)
        regions = torch.zeros(len(sample), self.projection_dim, self.most_bits + 1, dtype=torch.int16)
        fitted: list[list[Tensor]] = []
        for j in track(range(self.projection_dim), "VBQ"):
            objective = neighbourhood_objective(sample[:, j], neighbours)
            cuts = [torch.empty(0, dtype=torch.int64)]
            cuts += [self.search.best_cuts(objective, count, generator) for count in counts[1:]]
            worth[j] = torch.cat([objective.f1(found[None]) for found in cuts])
            fitted.append([objective.thresholds(*given) for given in zip(cuts, counts, strict=True)])
            for q in range(1, self.most_bits + 1):
                regions[:, j, q] = region_numbers(sample[:, j : j + 1], fitted[j][q][None])[:, 0].short()
        self.allocation.copy_(self.allocator.allocate(BitOptions(worth, regions, neighbours), self.bits, generator))
        self.thresholds.zero_()
        for j, q in enumerate(self.allocation.tolist()):
            self.thresholds[j, : 2**q - 1] = fitted[j][q]
