"""Variable bit quantisation (Moran, Lavrenko & Osborne, ACL 2013)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.base import Quantizer
from deephash.quantizers.bit_allocations.base import BitAllocation, BitOptions
from deephash.quantizers.bit_allocations.knapsack import Knapsack
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective, sample_neighbours
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import (
    bit_margins,
    encode_regions,
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
    """0 to 4 bits per projection: a knapsack spends the budget where bits have the highest F1.

    A projection that keeps neighbours together gets many bits; one that does not gets none. For each projection and
    each number of bits q, 2^q - 1 thresholds are fitted as in NPQ with α = 1. Their F1 on training pairs is the value
    of q bits for this projection; the value of 0 bits is the F1 of a single region, which predicts that all pairs are
    neighbours. Dynamic programming, instead of the authors' binary linear programme, finds the allocation of largest
    total value that spends exactly b bits. Another `allocator` may spend them differently. Regions are numbered in
    binary and ranked by Manhattan distance, to which a projection of q bits adds at most 2^q - 1. Known weakness:
    redundant projections each get bits, unless `Gumbel` allocates them.

    Shape:
        projections (n, b) → bits (n, b): as many projections as bits, some of which get none.

    Args:
        bits: code length b; all bits are spent.
        most_bits: maximum number of bits per projection, from 1 to 8.
        search: method that maximises F1; None for `EvolutionarySearch()`, the kind that the authors use.
            `ExactSearch()` finds the optimum.
        pairs_sample: number of training items among which pairs are counted, drawn at random if there are more.
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.
        allocator: method that allocates the bits; None for `Knapsack()`, the authors' optimum. `Gumbel()` judges whole
            codes.

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
        # A projection with q bits uses the first 2^q - 1 thresholds; the others stay 0.
        self.thresholds = nn.Parameter(torch.zeros(bits, 2**most_bits - 1))
        self.register_buffer("allocation", torch.ones(bits, dtype=torch.int64))

    @property
    def projection_dim(self) -> int:
        """Number of projections, one per bit."""
        return self.bits

    @property
    def distance(self) -> VariableManhattan:
        """Manhattan distance of the regions' numbers, with the number of bits of each projection."""
        return VariableManhattan(tuple(self.allocation.tolist()))

    def forward(self, projections: Tensor) -> Tensor:
        """Return relaxed bits: the relaxation of each bit's margin from the nearest threshold at which it flips."""
        groups = self._group_projections(*self.scale_to_units(projections, self.thresholds))
        margins = torch.cat([bit_margins(*group) for group in groups], 1)
        relaxed: Tensor = self.relaxation(margins[:, self._find_bit_places()])
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """Return a relaxed step for each threshold, projections with fewer bits before those with more."""
        groups = self._group_projections(*self.scale_to_units(projections, self.thresholds))
        steps = [step_margins(values, thresholds) for values, thresholds, _ in groups]
        relaxed: Tensor = self.relaxation(torch.cat(steps, 1))
        return relaxed

    def quantize(self, projections: Tensor) -> Tensor:
        """Return the bits of the regions that the projections lie in."""
        bits = [encode_regions(*group) for group in self._group_projections(projections, self.thresholds)]
        return torch.cat(bits, 1)[:, self._find_bit_places()]

    def _group_projections(self, projections: Tensor, thresholds: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return projections, thresholds and encoding of the projections with 1 bit, with 2, ..., if there are any."""
        groups = []
        for q in range(1, self.most_bits + 1):
            dimensions = (self.allocation == q).nonzero().flatten()
            if len(dimensions):
                some = thresholds[dimensions, : 2**q - 1]
                groups.append((projections[:, dimensions], some, natural_binary_encoding(q)))
        return groups

    def _find_bit_places(self) -> Tensor:
        """Return the place of each bit of the code among the bits of the groups, int64 (b,)."""
        owners = torch.repeat_interleave(self.allocation)
        # Groups hold their projections in order, so a stable sort by the number of bits gives the groups' bits.
        return self.allocation[owners].argsort(stable=True).argsort()

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        # With few neighbours, fine cuts have the best F1, and a few projections would get all bits.
        rows, neighbours = sample_neighbours(affinity.wide(), self.pairs_sample, "VBQ", generator)
        sample = projections[rows.to(projections.device)].cpu()
        counts = [2**q - 1 for q in range(self.most_bits + 1)]
        worth = torch.empty(self.projection_dim, self.most_bits + 1, dtype=torch.float64)
        regions = torch.zeros(len(sample), self.projection_dim, self.most_bits + 1, dtype=torch.int16)
        fitted: list[list[Tensor]] = []
        for j in track(range(self.projection_dim), "VBQ"):
            objective = neighbourhood_objective(sample[:, j], neighbours)
            cuts = [torch.empty(0, dtype=torch.int64)]
            cuts += [self.search.best_cuts(objective, count, generator) for count in counts[1:]]
            worth[j] = torch.cat([objective.f1(chosen[None]) for chosen in cuts])
            fitted.append([objective.thresholds(*pair) for pair in zip(cuts, counts, strict=True)])
            for q in range(1, self.most_bits + 1):
                regions[:, j, q] = region_numbers(sample[:, j : j + 1], fitted[j][q][None])[:, 0].short()
        self.allocation.copy_(self.allocator.allocate(BitOptions(worth, regions, neighbours), self.bits, generator))
        self.thresholds.zero_()
        for j, q in enumerate(self.allocation.tolist()):
            self.thresholds[j, : 2**q - 1] = fitted[j][q]
