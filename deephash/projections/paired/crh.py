"""Co-regularised hashing (Zhen & Yeung, NIPS 2012)."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from deephash.affinity.boosted_pairs import boost_weights, draw_signed_pairs
from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.standardised_views import standardise_views
from deephash.validation import check_count, check_positive

# a and λ of the clipped loss, as in the paper: dissimilar pairs cost nothing from a distance of aλ = 1 on.
REACH = 3.7
KNEE = 1 / REACH
ITEMS_PER_STEP, PAIRS_PER_STEP = 64, 256


def clipped_inverted_square(distances: np.ndarray) -> np.ndarray:
    """τ(d), the smoothly clipped inverted squared deviation: falls from aλ²/2 at 0 to 0 at |d| = aλ, and stays 0."""
    d, a, knee = np.abs(distances), REACH, KNEE
    near, middle = (a * knee**2 - d**2) / 2, (a * knee - d) ** 2 / (2 * (a - 1))
    return np.where(d <= knee, near, np.where(d <= a * knee, middle, 0.0))


def convex_part(distances: np.ndarray) -> np.ndarray:
    """τ₁(d), the convex part of τ = τ₁ - τ₂; τ₂(d) = (d² - aλ²) / 2 is convex too."""
    return clipped_inverted_square(distances) + (distances**2 - REACH * KNEE**2) / 2


def convex_slope(distances: np.ndarray) -> np.ndarray:
    """τ₁'(d): 0 up to λ, then it rises more steeply than d until both are equal at aλ."""
    d = np.abs(distances)
    slope: np.ndarray = np.sign(distances) * np.minimum(np.maximum(REACH * (d - KNEE) / (REACH - 1), 0.0), d)
    return slope


class Problem(NamedTuple):
    """The problem of one bit in one view, with the projections of the other view fixed."""

    items: np.ndarray
    """float64 (n, d), centred and scaled."""
    rows: np.ndarray
    """int64 (p,), the item of each pair in this view."""
    partners: np.ndarray
    """float64 (p,), the projection of each pair's other item, in the other view."""
    similar: np.ndarray
    """bool (p,)."""
    weights: np.ndarray
    """float64 (p,), summing to 1."""
    gamma: float
    decay: float

    def objective(self, direction: np.ndarray) -> float:
        """Mean margin loss, weighted loss of pairs and decay, without the constant part of the other view."""
        values = self.items @ direction
        distances = values[self.rows] - self.partners
        losses = np.where(self.similar, distances**2, clipped_inverted_square(distances))
        return self._sum_losses(np.maximum(1 - np.abs(values), 0), losses, direction)

    def surrogate(self, direction: np.ndarray, start: np.ndarray) -> float:
        """Convex upper bound of the objective, equal to it at `start`, where concave parts have their tangents."""
        values, before = self.items @ direction, self.items @ start
        distances, tangent = values[self.rows] - self.partners, before[self.rows] - self.partners
        # -τ₂ along its tangent at t: (aλ² - t²) / 2 - t (d - t) = (aλ² + t²) / 2 - t d.
        bound = convex_part(distances) + (REACH * KNEE**2 + tangent**2) / 2 - tangent * distances
        losses = np.where(self.similar, distances**2, bound)
        return self._sum_losses(np.maximum(np.abs(values), 1) - values * np.sign(before), losses, direction)

    def subgradient(self, direction: np.ndarray, start: np.ndarray, items: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Subgradient of the surrogate, from some items and some pairs, the pairs drawn by their weights."""
        drawn, paired = self.items[items], self.items[self.rows[pairs]]
        values, before = drawn @ direction, drawn @ start
        hinge = np.where(np.abs(values) > 1, np.sign(values), 0.0) - np.sign(before)
        distances, tangent = paired @ direction - self.partners[pairs], paired @ start - self.partners[pairs]
        slopes = np.where(self.similar[pairs], 2 * distances, convex_slope(distances) - tangent)
        gradient: np.ndarray = hinge @ drawn / len(drawn) + self.gamma * (slopes @ paired) / len(paired)
        gradient += self.decay * direction
        return gradient

    def descend(self, start: np.ndarray, steps: int, smoothness: float, generator: torch.Generator) -> np.ndarray:
        """Run one round of stochastic subgradient steps on the surrogate; return `start` if they do not lower it.

        The surrogate is an upper bound that equals the objective at `start`, so the objective falls as well.
        """
        items = torch.randint(len(self.items), (steps, ITEMS_PER_STEP), generator=generator).numpy()
        drawn = torch.multinomial(torch.from_numpy(self.weights), steps * PAIRS_PER_STEP, True, generator=generator)
        direction, average = start.copy(), np.zeros_like(start)
        for t, (rows, pairs) in enumerate(zip(items, drawn.numpy().reshape(steps, -1), strict=True)):
            # The steps of Pegasos, 1 / (decay t), bounded by the curvature of the smooth part.
            direction -= self.subgradient(direction, start, rows, pairs) / (self.decay * t + smoothness)
            if t >= steps // 2:
                average += direction / (steps - steps // 2)
        return average if self.surrogate(average, start) < self.surrogate(start, start) else start

    def _sum_losses(self, margins: np.ndarray, losses: np.ndarray, direction: np.ndarray) -> float:
        return float(margins.mean() + self.gamma * self.weights @ losses + self.decay / 2 * direction @ direction)


@final
class CRH(PairedProjection):
    """Co-regularised hashing: learns hyperplanes of both views with large margins that agree on similar pairs.

    The loss of a bit has three parts. Items of either view should have a distance of at least 1 from their hyperplane,
    on either side. Similar pairs should have near projections, and dissimilar pairs projections that differ by at least
    1. The first and last parts are differences of convex functions: in each round, the concave part is replaced by its
    tangent, and stochastic subgradient steps minimise the result, first in one view and then in the other. Pairs that a
    bit gets wrong weigh more for the next bit.
    Known weakness: each bit ends in a local minimum near its random start; the loss of a similar pair has no bound, so
    an uninformative view keeps the margins of the other view small.

    Shape:
        features (n, d of the view) → projections (n, k); k may exceed either d.

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k.
        pairs: number of similar pairs to draw, and of dissimilar ones.
        gamma: γ, weight of the mean loss of pairs against that of items.
        decay: λ of ½ λ ‖w‖², for features scaled to unit total variance.
        rounds: rounds of linearisation in each view.
        steps: subgradient steps per round.

    Attributes:
        objectives: float64 (k, 2 rounds + 1), the loss of each bit at the start and after each round of either view; it
            never rises.

    Raises:
        InvalidInputError: a number is below 1, or a weight is not above 0; in `fit`, pairs of one kind are missing, or
            all items are the same.

    References:
        Zhen & Yeung, "Co-regularized hashing for multimodal data", NIPS 2012; the steps are those of Shalev-Shwartz,
        Singer & Srebro, "Pegasos: primal estimated sub-gradient solver for SVM", ICML 2007.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    samples_rows: ClassVar[bool] = True

    objectives: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        pairs: int = 10000,
        gamma: float = 3.0,
        decay: float = 0.01,
        rounds: int = 5,
        steps: int = 50,
    ) -> None:
        super().__init__(input_dims, output_dim)
        for count, name in ((pairs, "pairs"), (rounds, "rounds"), (steps, "steps")):
            check_count(count, name)
        check_positive(gamma, "gamma")
        check_positive(decay, "decay")
        self.pairs = pairs
        self.gamma = gamma
        self.decay = decay
        self.rounds = rounds
        self.steps = steps
        self.register_buffer("objectives", torch.zeros(output_dim, 2 * rounds + 1, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        pairs, signs = draw_signed_pairs(affinity, self.pairs, generator)
        standardised = standardise_views(views)
        # In NumPy, because the overhead of torch's calls would dominate thousands of small steps.
        items = [view.items.cpu().numpy() for view in standardised.values()]
        weights = torch.full_like(signs, 1 / len(signs))
        learnt: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for bit in track(range(self.output_dim), "CRH"):
            directions, objectives = self._learn_bit(
                items, pairs.numpy(), (signs > 0).numpy(), weights.numpy(), generator
            )
            self.objectives[bit] = torch.tensor(objectives)
            bits = [torch.from_numpy(rows @ w >= 0) for rows, w in zip(items, directions, strict=True)]
            agree = bits[0][pairs[:, 0]] == bits[1][pairs[:, 1]]
            weights, _ = boost_weights(weights, torch.where(agree, signs, -signs))
            for side in (0, 1):
                learnt[side].append(directions[side])
        for side, (name, view) in enumerate(standardised.items()):
            self.view(name).set_weights(view.mean, torch.from_numpy(np.stack(learnt[side], 1)) / view.scale)

    def _learn_bit(
        self,
        items: list[np.ndarray],
        pairs: np.ndarray,
        similar: np.ndarray,
        weights: np.ndarray,
        generator: torch.Generator,
    ) -> tuple[list[np.ndarray], list[float]]:
        """Learn the directions of both views from a random start; return them and the objective after each round."""
        directions = [torch.randn(x.shape[1], generator=generator, dtype=torch.float64).numpy() for x in items]
        directions = [w / np.sqrt(np.square(x @ w).mean()) for x, w in zip(items, directions, strict=True)]
        # With items of unit total variance, this bounds the average curvature that the squares of pairs add.
        smoothness = self.decay + 2 * self.gamma

        def problem(side: int) -> Problem:
            partners = (items[1 - side] @ directions[1 - side])[pairs[:, 1 - side]]
            return Problem(items[side], pairs[:, side], partners, similar, weights, self.gamma, self.decay)

        def constant_part(side: int) -> float:
            """Margins and decay of the other view, which are constant while this view is learnt."""
            other = directions[1 - side]
            margins = np.maximum(1 - np.abs(items[1 - side] @ other), 0).mean()
            return float(margins + self.decay / 2 * other @ other)

        objectives = [problem(0).objective(directions[0]) + constant_part(0)]
        for _ in range(self.rounds):
            for side in (0, 1):
                subproblem = problem(side)
                directions[side] = subproblem.descend(directions[side], self.steps, smoothness, generator)
                objectives.append(subproblem.objective(directions[side]) + constant_part(side))
        return directions, objectives
