"""Neighbourhood preserving quantisation (Moran, Lavrenko & Osborne, SIGIR 2013)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.neighbourhood_objective import neighbourhood_objective, sample_neighbours
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.threshold_encodings import double_bit_encoding, natural_binary_encoding
from deephash.quantizers.threshold_quantizer import ThresholdQuantizer
from deephash.quantizers.threshold_searches.base import ThresholdSearch
from deephash.quantizers.threshold_searches.evolutionary_search import EvolutionarySearch
from deephash.validation import InvalidInputError, check_count, check_fraction

THRESHOLDS = (1, 2, 3, 7, 15)
# From this code length on, the authors include the squared error: α falls from 1 to 0.8.
LONG_CODE, LONG_CODE_F1_WEIGHT = 128, 0.8


def region_encoding(thresholds: int) -> Tensor:
    """Return the encoding for 1 (SBQ's), 2 (DBQ's) or 2^q - 1 thresholds (MHQ's), bool (T + 1, q)."""
    return double_bit_encoding() if thresholds == 2 else natural_binary_encoding((thresholds + 1).bit_length() - 1)


@final
class NPQ(ThresholdQuantizer):
    """Thresholds that keep neighbours in one region: they maximise J = α·F1 + (1 - α)(1 - Ω) of each projection.

    F1 scores the prediction that two training items are neighbours exactly if they share a region. Ω is the share of
    the variance that remains within regions. Other quantisers see only the values of a projection; this one
    sees whether the items on either side of a threshold belong together. The encoding and the distance are those of SBQ
    (one threshold), DBQ (two) or MHQ (3, 7 or 15). Known weakness: each projection is fitted independently, so
    redundant ones are not recognised, and some pairs of neighbours must be known.

    Shape:
        projections (n, b/q) → bits (n, b), where q is 1 for 1 threshold, 2 for 2 or 3 thresholds, 3 for 7, and 4 for
        15.

    Args:
        bits: code length b, a multiple of q.
        thresholds_per_projection: 1, 2, 3, 7 or 15; the published figures use 3.
        search: method that maximises J; None for `EvolutionarySearch()`, the kind that the authors use. `ExactSearch()`
            finds the optimum.
        f1_weight: α, from 0 to 1; None for the authors' choice, 1 below 128 bits and 0.8 from there.
        pairs_sample: number of training items among which pairs are counted, drawn at random if there are more; memory
            and time grow with its square. 2,000 as in the protocol `FiveWay`.
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: another number of thresholds, a code length that is not a multiple of q, or α outside [0, 1].

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
        if isinstance(thresholds_per_projection, bool) or thresholds_per_projection not in THRESHOLDS:
            raise InvalidInputError(
                f"thresholds_per_projection={thresholds_per_projection!r}; expected 1, 2, 3, 7 or 15: "
                "1, 2, 2, 3 or 4 bits per projection."
            )
        if f1_weight is not None:
            check_fraction(f1_weight, "f1_weight")
        check_count(pairs_sample, "pairs_sample")
        encoding = region_encoding(thresholds_per_projection)
        super().__init__(bits, encoding, relaxation, manhattan=thresholds_per_projection > 2)
        self.thresholds_per_projection = thresholds_per_projection
        self.search = EvolutionarySearch() if search is None else search
        self.f1_weight = f1_weight
        self.pairs_sample = pairs_sample

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        f1_weight = self.f1_weight
        if f1_weight is None:
            f1_weight = 1.0 if self.bits < LONG_CODE else LONG_CODE_F1_WEIGHT
        rows, neighbours = sample_neighbours(affinity, self.pairs_sample, "NPQ", generator)
        sample = projections[rows.to(projections.device)].cpu()
        count = self.thresholds_per_projection
        for j in track(range(self.projection_dim), "NPQ"):
            objective = neighbourhood_objective(sample[:, j], neighbours, f1_weight)
            self.thresholds[j] = objective.thresholds(self.search.best_cuts(objective, count, generator), count)
