"""Spherical hashing (Heo, Lee, He, Chang & Yoon, CVPR 2012)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import BLOCK_PAIRS, squared_distances
from deephash.functional.principal_components import BLOCK_ROWS, feature_mean, working_dtype
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.quantizers.threshold_encodings import threshold_between
from deephash.validation import InvalidInputError, check_count

# Bounds on the mean and the spread of overlaps' deviations from n/4, relative to it (section 3.3).
MEAN_TOLERANCE = 0.10
SPREAD_TOLERANCE = 0.15
# Rows whose mean is a first centre, as in the authors' code: means lie nearer the middle than rows do.
ROWS_OF_A_CENTRE = 5
# Where forces cannot balance the spheres, as of few distinct rows, which share their medians, centres would fly off for
# ever: they stop where a first centre counts so many times in another one.
MAX_WEIGHT = 100


def overlap_deviations(overlaps: Tensor, n: int) -> tuple[float, float]:
    """How far pairs of spheres are from sharing a quarter of the items, as independent balanced bits do (Eq. 6).

    Args:
        overlaps: o, (k, k), items within both spheres.
        n: number of items.

    Returns:
        Mean of |o_ij - n/4| and standard deviation of o_ij over pairs i < j, both divided by n/4; 0 for one sphere.
    """
    i, j = torch.triu_indices(len(overlaps), len(overlaps), 1)
    shares = overlaps[i, j].double() / (n / 4)
    if len(shares) == 0:
        return 0.0, 0.0
    return float((shares - 1).abs().mean()), float(shares.std(correction=0))


def force_step(overlaps: Tensor, n: int) -> Tensor:
    """The step of all centres as a matrix: P ← P + F P (section 3.3).

    A pair that shares more than a quarter of the items is pushed apart and one that shares less pulled together,
    along the line between the centres: p_i moves by the mean over all k of ½ (o_ij - n/4) / (n/4) (p_i - p_j).

    Args:
        overlaps: o, (k, k).
        n: number of items.

    Returns:
        F, float64 (k, k), whose rows sum to 0.
    """
    forces = (overlaps.double() / (n / 4) - 1) / (2 * len(overlaps))
    forces.fill_diagonal_(0)
    return torch.diag(forces.sum(1)) - forces


def place_centres(features: Tensor, start: Tensor, rounds: int) -> tuple[Tensor, tuple[float, float]]:
    """Move centres until spheres that each hold half of the items are pairwise independent.

    Forces act along differences of centres, so centres stay combinations P = C P₀ of the first ones, and the inner
    products with those, taken once, give all later distances: a round costs n k² operations rather than n d k.

    Args:
        features: floating (n, d), centred.
        start: P₀, (k, d).
        rounds: most steps; the stopping rule of the paper ends them earlier.

    Returns:
        Centres (k, d), and their spheres' `overlap_deviations`.
    """
    n, k = len(features), len(start)
    products = start @ features.T
    squares = features.square().sum(1)
    combination = torch.eye(k, dtype=torch.float64, device=features.device)
    for step in track(range(rounds + 1), "SpH"):
        # ‖x - p‖² less ‖p‖², which ranks the items of one sphere alike.
        distances = torch.addmm(squares, combination.to(products.dtype), products, alpha=-2)
        radii = distances.kthvalue(max(n // 2, 1), dim=1, keepdim=True).values
        inside = (distances <= radii).to(products.dtype)
        overlaps = inside @ inside.T
        mean, spread = overlap_deviations(overlaps, n)
        if step == rounds or (mean <= MEAN_TOLERANCE and spread <= SPREAD_TOLERANCE):
            break
        moved = combination + force_step(overlaps, n) @ combination
        if float(moved.abs().max()) > MAX_WEIGHT:
            break
        combination = moved
    return (combination @ start.double()).to(start.dtype), (mean, spread)


@final
class SpH(Projection):
    """Spheres that each hold half of the items, pairwise independent: a bit says whether an item lies inside.

    A hyperplane cuts space into two unbounded halves; spheres cut out closed regions, so items that share bits 1 lie in
    one bounded place. Centres are pushed apart where two spheres share more than a quarter of the items and pulled
    together where they share less; a radius is the median distance from its centre, which balances the bit.
    Known weakness: in many dimensions distances from any centre differ little, and the length of an item alone sways
    all bits. Codes are ranked by Hamming distance, which the paper reports beside its spherical Hamming distance,
    |b ⊕ b'| / |b ∧ b'|; the latter counts shared 1s for more than shared 0s, and is not offered.

    Shape:
        features (n, d) → projections (n, k), squared radii less squared distances: above 0 inside, at most r².

    Args:
        input_dim: feature dimension d.
        output_dim: number of spheres k; there is no bound.
        rounds: most steps of the forces; 500. The paper's rule, mean |o_ij - n/4| <= 0.10 n/4 and standard deviation of
            o_ij <= 0.15 n/4, ends them after some 40 on image features, and some hundred in few dimensions.
        training_items: items among which overlaps are counted, drawn at random where there are more, as in the paper;
            100,000, with which a share is known to 1 in 200. Radii are the medians of all items.

    Attributes:
        deviations: float64 (2,), mean of |o_ij - n/4| and standard deviation of o_ij over pairs of spheres, divided by
            n/4, in the last round.

    Raises:
        InvalidInputError: rounds or training_items below 1; in `fit`, rows that are all the same.

    References:
        Heo, Lee, He, Chang & Yoon, "Spherical hashing", CVPR 2012.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    deviations: Tensor

    def __init__(self, input_dim: int, output_dim: int, rounds: int = 500, training_items: int = 100_000) -> None:
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        check_count(training_items, "training_items")
        self.rounds = rounds
        self.training_items = training_items
        self.register_buffer("deviations", torch.zeros(2, dtype=torch.float64))
        self.centres = nn.Parameter(torch.zeros(output_dim, input_dim))
        self.radii = nn.Parameter(torch.ones(output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """r² - ‖x - p‖² of each sphere."""
        return self.radii.square() - squared_distances(features, self.centres)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean = feature_mean(features)
        rows = torch.randperm(len(features), generator=generator)[: self.training_items].to(features.device)
        sample = features[rows].to(working_dtype(features))
        sample -= mean.to(sample.dtype)
        if not bool((sample != sample[:1]).any()):
            raise InvalidInputError(
                f"all {len(sample)} training rows are the same, so no sphere parts them; give data that vary."
            )
        # Of few rows all means are alike, and centres that coincide are never pushed apart.
        averaged = min(ROWS_OF_A_CENTRE, len(sample) // 2)
        draws = [torch.randperm(len(sample), generator=generator)[:averaged] for _ in range(self.output_dim)]
        start = sample[torch.stack(draws).to(sample.device)].mean(1)
        centres, deviations = place_centres(sample, start, self.rounds)
        self.deviations.copy_(torch.tensor(deviations))
        self.centres.copy_(centres.double() + mean)
        self.radii.copy_(_median_distances(features, self.centres))


def _median_distances(features: Tensor, centres: Tensor) -> Tensor:
    """Distances within which half of the rows lie, each between those of two rows; some centres at a time."""
    n, radii = len(features), []
    for some in torch.split(centres, max(1, BLOCK_PAIRS // n)):
        blocks = [squared_distances(block, some).T for block in torch.split(features, BLOCK_ROWS)]
        distances = torch.cat(blocks, 1)
        inner = distances.kthvalue(max(n // 2, 1), dim=1).values
        outer = distances.kthvalue(max(n // 2, 1) + 1, dim=1).values
        # Rounding can leave a squared distance of 0 below it.
        radii.append(threshold_between(inner.double(), outer.double()).clamp_min(0).sqrt())
    return torch.cat(radii)
