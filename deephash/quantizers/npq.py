"""Neighbourhood preserving quantisation (Moran, Lavrenko & Osborne, SIGIR 2013)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.base import Quantizer
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective, sampled_neighbours
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import (
    bit_margins,
    double_bit_encoding,
    encoded_bits,
    natural_binary_encoding,
    step_margins,
)
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.quantizers.threshold_searches.evolutionary_search import EvolutionarySearch
from deephash.ranking.distance import Hamming, Manhattan
from deephash.validation import InvalidInputError, check_bits_of_projections, check_count, check_fraction

THRESHOLDS = (1, 2, 3, 7, 15)
# From this code length on, the authors weigh in the squared error: α falls from 1 to 0.8.
LONG_CODE, LONG_CODE_F1_WEIGHT = 128, 0.8


def encoding_of(thresholds: int) -> Tensor:
    """The encoding of the regions between 1 (SBQ's), 2 (DBQ's), or 2^q - 1 thresholds (MHQ's), bool (T + 1, q)."""
    return double_bit_encoding() if thresholds == 2 else natural_binary_encoding((thresholds + 1).bit_length() - 1)


@final
class NPQ(Quantizer):
    """Thresholds that keep neighbours in one region: those of largest J = α·F1 + (1 - α)(1 - Ω) in each dimension.

    F1 is that of the pairs of training items in a common region, taken as a guess at which are neighbours; Ω is the
    share of the variance left within regions. Other quantisers see a dimension's values alone; this one sees whether
    the items on either side of a threshold belong together. The encoding and the distance are those of SBQ (one
    threshold), DBQ (two) or MHQ (3, 7 or 15). Known weakness: each dimension is fitted by itself, so dimensions that
    say the same are not told apart; and J takes pairs, which someone must know.

    Shape:
        projections (n, b/q) → bits (n, b), with q bits for 1, 2-3, 7 or 15 thresholds: 1, 2, 3 or 4.

    Args:
        bits: code length b, a multiple of q.
        thresholds_per_projection: 1, 2, 3, 7 or 15; the published figures are made with 3.
        search: how J is maximised; None for `EvolutionarySearch()`, the authors' kind. `ExactSearch()` finds the best.
        f1_weight: α, from 0 to 1; None for the authors' choice, 1 below 128 bits and 0.8 from there.
        pairs_sample: training items among which pairs are counted, drawn at random from more; memory and time grow
            with its square. The five-way split has 2,000.
        relaxation: what stands for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: another number of thresholds, a code length that is no multiple of q, or α outside [0, 1].

    References:
        Moran, Lavrenko & Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})

    def __init__(
        self,
        bits: int,
        thresholds_per_projection: int = 3,
        search: ThresholdSearch | None = None,
        f1_weight: float | None = None,
        pairs_sample: int = 2000,
        relaxation: Relaxation | None = None,
    ) -> None:
        super().__init__(bits)
        if isinstance(thresholds_per_projection, bool) or thresholds_per_projection not in THRESHOLDS:
            raise InvalidInputError(
                f"thresholds_per_projection={thresholds_per_projection!r}; expected 1, 2, 3, 7 or 15: "
                "1, 2, 2, 3 or 4 bits a projection."
            )
        if f1_weight is not None:
            check_fraction(f1_weight, "f1_weight")
        check_count(pairs_sample, "pairs_sample")
        self.thresholds_per_projection = thresholds_per_projection
        self.encoding = encoding_of(thresholds_per_projection)
        check_bits_of_projections(bits, self.encoding.shape[1])
        self.search = EvolutionarySearch() if search is None else search
        self.f1_weight = f1_weight
        self.pairs_sample = pairs_sample
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.thresholds = nn.Parameter(torch.zeros(self.projection_dim, thresholds_per_projection))

    @property
    def projection_dim(self) -> int:
        """One projection for q bits."""
        return self.bits // self.encoding.shape[1]

    @property
    def distance(self) -> Hamming | Manhattan:
        """Hamming distance for 1 and 2 thresholds, Manhattan distance of the regions' numbers for more."""
        if self.thresholds_per_projection <= 2:
            return Hamming(self.bits)
        return Manhattan(self.projection_dim, self.encoding.shape[1])

    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits of each bit's distance from the nearest threshold at which it flips."""
        relaxed: Tensor = self.relaxation(bit_margins(*self.in_units(projections, self.thresholds), self.encoding))
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """The relaxed bits for 1 and 2 thresholds; for more a relaxed step for each, (n, k) → (n, k·T)."""
        if self.thresholds_per_projection <= 2:
            return self.forward(projections)
        relaxed: Tensor = self.relaxation(step_margins(*self.in_units(projections, self.thresholds)))
        return relaxed

    def quantize(self, projections: Tensor) -> Tensor:
        """The bits of the regions that projections lie in."""
        return encoded_bits(projections, self.thresholds, self.encoding)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        f1_weight = self.f1_weight
        if f1_weight is None:
            f1_weight = 1.0 if self.bits < LONG_CODE else LONG_CODE_F1_WEIGHT
        rows, neighbours = sampled_neighbours(affinity, self.pairs_sample, "NPQ", generator)
        sample = projections[rows.to(projections.device)].cpu()
        count = self.thresholds_per_projection
        for j in track(range(self.projection_dim), "NPQ"):
            objective = neighbourhood_objective(sample[:, j], neighbours, f1_weight)
            self.thresholds[j] = objective.thresholds(self.search.best_cuts(objective, count, generator), count)
