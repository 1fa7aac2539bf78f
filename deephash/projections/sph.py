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

# Bounds on the mean and standard deviation of the overlaps' deviations from n/4, relative to n/4 (section 3.3).
MEAN_TOLERANCE = 0.10
SPREAD_TOLERANCE = 0.15
# An initial centre is the mean of this many rows, as in the authors' code: means are nearer to the middle than rows.
ROWS_PER_CENTRE = 5
# With few distinct rows, spheres share their medians and forces cannot balance them, so centres would move away without
# end. Centres are weighted sums of the initial centres, and moves stop when a weight would exceed this.
MAX_WEIGHT = 100


def overlap_deviations(overlaps: Tensor, n: int) -> tuple[float, float]:
    """Deviation of pairs of spheres from sharing a quarter of the items, as independent balanced bits do (Eq. 6).

    Args:
        overlaps: o, (k, k), number of items inside both spheres.
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
    """Compute the step of all centres as a matrix F: P ← P + F P (section 3.3).

    Pairs that share more than a quarter of the items repel each other, and pairs that share less attract each other,
    along the line between their centres: p_i moves by the mean over all k of ½ (o_ij - n/4) / (n/4) (p_i - p_j).

    Args:
        overlaps: o, (k, k), number of items inside both spheres.
        n: number of items.

    Returns:
        F, float64 (k, k), whose rows sum to 0.
    """
    forces = (overlaps.double() / (n / 4) - 1) / (2 * len(overlaps))
    forces.fill_diagonal_(0)
    return torch.diag(forces.sum(1)) - forces


def place_centres(features: Tensor, start: Tensor, rounds: int) -> tuple[Tensor, tuple[float, float]]:
    """Move centres until spheres that each contain half of the items are pairwise independent.

    Forces act along differences of centres, so centres stay combinations P = C P₀ of the initial ones. Inner products
    with the initial centres, computed once, give all later distances: a round costs n k² operations rather than n d k.

    Args:
        features: floating (n, d), centred.
        start: P₀, (k, d).
        rounds: maximum number of steps; the stopping rule of the paper usually ends earlier.

    Returns:
        Centres (k, d), and the `overlap_deviations` of their spheres.
    """
    n, k = len(features), len(start)
    products = start @ features.T
    squares = features.square().sum(1)
    combination = torch.eye(k, dtype=torch.float64, device=features.device)
    for step in track(range(rounds + 1), "SpH"):
        # ‖x - p‖² - ‖p‖², which ranks the items of a sphere in the same order.
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
    """Spherical hashing: learns spheres that each contain half of the items, pairwise independent; a bit is 1 inside.

    A hyperplane cuts the space into two unbounded halves, while spheres enclose bounded regions, so items that share
    1-bits lie close together. If two spheres share more than a quarter of the items, their centres are pushed apart; if
    they share less, they are pulled together. The radius is the median distance from the centre, which balances the
    bit.
    Known weakness: in many dimensions, distances from any centre differ little, and the length of an item alone
    influences all bits. Codes are ranked by Hamming distance, which the paper reports beside its spherical Hamming
    distance, |b ⊕ b'| / |b ∧ b'|. The latter weighs shared 1s more than shared 0s and is not available here.

    Shape:
        features (n, d) → projections (n, k), squared radii minus squared distances: above 0 inside, at most r².

    Args:
        input_dim: feature dimension d.
        output_dim: number of spheres k, without a limit.
        rounds: maximum number of steps; 500. The rule of the paper, mean |o_ij - n/4| <= 0.10 n/4 and standard
            deviation of o_ij <= 0.15 n/4, stops after about 40 steps on image features, and after up to about a
            hundred in few dimensions.
        training_items: maximum number of items among which overlaps are counted; more are sampled at random, as in the
            paper. With 100,000, the standard error of an overlap is about 1/200 of it. Radii are medians over all
            items.

    Attributes:
        deviations: float64 (2,), mean of |o_ij - n/4| and standard deviation of o_ij over pairs of spheres, divided by
            n/4, in the last round.

    Raises:
        InvalidInputError: rounds or training_items is below 1; in `fit`, all rows are the same.

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
                f"all {len(sample)} training rows are the same, so no sphere separates them; give data that vary."
            )
        # With few rows all means would be the same, and forces never separate centres that coincide.
        averaged = min(ROWS_PER_CENTRE, len(sample) // 2)
        draws = [torch.randperm(len(sample), generator=generator)[:averaged] for _ in range(self.output_dim)]
        start = sample[torch.stack(draws).to(sample.device)].mean(1)
        centres, deviations = place_centres(sample, start, self.rounds)
        self.deviations.copy_(torch.tensor(deviations))
        self.centres.copy_(centres.double() + mean)
        self.radii.copy_(_compute_median_distances(features, self.centres))


def _compute_median_distances(features: Tensor, centres: Tensor) -> Tensor:
    """Compute the median distance of rows from each centre, midway between two rows, for a few centres at a time."""
    n, radii = len(features), []
    for chunk in torch.split(centres, max(1, BLOCK_PAIRS // n)):
        blocks = [squared_distances(block, chunk).T for block in torch.split(features, BLOCK_ROWS)]
        distances = torch.cat(blocks, 1)
        inner = distances.kthvalue(max(n // 2, 1), dim=1).values
        outer = distances.kthvalue(max(n // 2, 1) + 1, dim=1).values
        # Rounding can make a squared distance of 0 negative.
        radii.append(threshold_between(inner.double(), outer.double()).clamp_min(0).sqrt())
    return torch.cat(radii)
