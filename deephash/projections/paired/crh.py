"""Co-regularised hashing (Zhen & Yeung, NIPS 2012)."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.boosted_pairs import boosted, signed_pairs
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import feature_mean, root_mean_square
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, check_count, check_positive

# The clipped loss's a and λ, as in the paper: dissimilar pairs cost nothing from a distance of aλ = 1 on.
REACH = 3.7
KNEE = 1 / REACH
ITEMS_A_STEP, PAIRS_A_STEP = 64, 256


def clipped_inverted_square(distances: np.ndarray) -> np.ndarray:
    """τ(d), the smoothly clipped inverted squared deviation: falls from aλ²/2 at 0 to 0 at |d| = aλ, and stays."""
    d, a, knee = np.abs(distances), REACH, KNEE
    near, middle = (a * knee**2 - d**2) / 2, (a * knee - d) ** 2 / (2 * (a - 1))
    return np.where(d <= knee, near, np.where(d <= a * knee, middle, 0.0))


def convex_part(distances: np.ndarray) -> np.ndarray:
    """τ₁(d), convex, in τ = τ₁ - τ₂ with τ₂(d) = (d² - aλ²) / 2, convex too."""
    return clipped_inverted_square(distances) + (distances**2 - REACH * KNEE**2) / 2


def convex_slope(distances: np.ndarray) -> np.ndarray:
    """τ₁'(d): 0 up to λ, then steeper than d until they meet at aλ."""
    d = np.abs(distances)
    slope: np.ndarray = np.sign(distances) * np.minimum(np.maximum(REACH * (d - KNEE) / (REACH - 1), 0.0), d)
    return slope


class Problem(NamedTuple):
    """One view's part of a bit's problem, with the other view's projections held."""

    items: np.ndarray
    """float64 (n, d), centred and scaled."""
    own: np.ndarray
    """int64 (p,), this view's item of each pair."""
    partners: np.ndarray
    """float64 (p,), the other view's projection of each pair's other item."""
    similar: np.ndarray
    """bool (p,)."""
    weights: np.ndarray
    """float64 (p,), summing to 1."""
    gamma: float
    decay: float

    def objective(self, direction: np.ndarray) -> float:
        """Mean margin loss, weighted loss of pairs and decay: what is minimised, but for the other view's constant."""
        values = self.items @ direction
        distances = values[self.own] - self.partners
        losses = np.where(self.similar, distances**2, clipped_inverted_square(distances))
        return self._total(np.maximum(1 - np.abs(values), 0), losses, direction)

    def surrogate(self, direction: np.ndarray, start: np.ndarray) -> float:
        """The convex bound: concave parts by their tangents at `start`, where it equals the objective."""
        values, before = self.items @ direction, self.items @ start
        distances, tangent = values[self.own] - self.partners, before[self.own] - self.partners
        # -τ₂ along its tangent at t: (aλ² - t²) / 2 - t (d - t) = (aλ² + t²) / 2 - t d.
        bound = convex_part(distances) + (REACH * KNEE**2 + tangent**2) / 2 - tangent * distances
        losses = np.where(self.similar, distances**2, bound)
        return self._total(np.maximum(np.abs(values), 1) - values * np.sign(before), losses, direction)

    def subgradient(self, direction: np.ndarray, start: np.ndarray, items: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """The surrogate's, from some items and some pairs, the latter drawn by their weights."""
        rows, own = self.items[items], self.items[self.own[pairs]]
        values, before = rows @ direction, rows @ start
        hinge = np.where(np.abs(values) > 1, np.sign(values), 0.0) - np.sign(before)
        distances, tangent = own @ direction - self.partners[pairs], own @ start - self.partners[pairs]
        slopes = np.where(self.similar[pairs], 2 * distances, convex_slope(distances) - tangent)
        sloped: np.ndarray = hinge @ rows / len(rows) + self.gamma * (slopes @ own) / len(own)
        sloped += self.decay * direction
        return sloped

    def descend(self, start: np.ndarray, steps: int, smoothness: float, generator: torch.Generator) -> np.ndarray:
        """One round: stochastic subgradient steps on the surrogate; `start` where they did not lower it.

        The surrogate bounds the objective from above and meets it at `start`, so that the objective falls with it.
        """
        items = torch.randint(len(self.items), (steps, ITEMS_A_STEP), generator=generator).numpy()
        drawn = torch.multinomial(torch.from_numpy(self.weights), steps * PAIRS_A_STEP, True, generator=generator)
        direction, average = start.copy(), np.zeros_like(start)
        for t, (some, pairs) in enumerate(zip(items, drawn.numpy().reshape(steps, -1), strict=True)):
            # Pegasos' 1 / (decay t), from a step on that the smooth part can bear.
            direction -= self.subgradient(direction, start, some, pairs) / (self.decay * t + smoothness)
            if t >= steps // 2:
                average += direction / (steps - steps // 2)
        return average if self.surrogate(average, start) < self.surrogate(start, start) else start

    def _total(self, margins: np.ndarray, losses: np.ndarray, direction: np.ndarray) -> float:
        return float(margins.mean() + self.gamma * self.weights @ losses + self.decay / 2 * direction @ direction)


@final
class CRH(PairedProjection):
    """A bit at a time, hyperplanes in both views with large margins whose projections agree on similar pairs.

    A bit's loss has three parts: items of either view keep a margin of 1 from their hyperplane, on whichever side;
    similar pairs have near projections; dissimilar ones a distance of up to 1. Margin and last part are differences
    of convex functions: round by round, the concave half gives way to its tangent and stochastic subgradient steps
    lower what is left, in one view and then the other. Pairs that the bit gets wrong weigh more in the next.
    Known weakness: each bit ends in a local minimum near its random start; far projections of a similar pair cost
    without bound, so a view that says little keeps the other's margins small.

    Shape:
        features (n, d of the view) → projections (n, k); k may exceed either d.

    Args:
        input_dims: feature dimension of each view by its name.
        output_dim: number of projections k.
        pairs: similar pairs drawn, and as many dissimilar ones.
        gamma: γ, weight of the pairs' mean loss against an item's.
        decay: λ of ½ λ ‖w‖², for features scaled to unit total variance.
        rounds: rounds of linearisation in each view.
        steps: subgradient steps of a round.

    Attributes:
        objectives: float64 (k, 2 rounds + 1), each bit's loss at the start and after each round of either view; it
            never rises.

    Raises:
        InvalidInputError: a number below 1 or weight not above 0; in `fit`, no pairs of one kind, or items that are all
            the same.

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
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})
        self.register_buffer("objectives", torch.zeros(output_dim, 2 * rounds + 1, dtype=torch.float64))

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        assert affinity is not None
        pairs, signs = signed_pairs(affinity, self.pairs, generator)
        means = {name: feature_mean(rows) for name, rows in views.items()}
        scales = {name: root_mean_square(rows, means[name]) for name, rows in views.items()}
        for name, scale in scales.items():
            if scale == 0:
                raise InvalidInputError(f"all training pairs have the same {name}; give data that vary.")
        # In NumPy: of the thousands of small steps, torch would spend most of each on its calls.
        items = [((rows.double() - means[name]) / scales[name]).cpu().numpy() for name, rows in views.items()]
        weights = torch.full_like(signs, 1 / len(signs))
        found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for bit in track(range(self.output_dim), "CRH"):
            directions, objectives = self._bit(items, pairs.numpy(), (signs > 0).numpy(), weights.numpy(), generator)
            self.objectives[bit] = torch.tensor(objectives)
            bits = [torch.from_numpy(rows @ w >= 0) for rows, w in zip(items, directions, strict=True)]
            agree = bits[0][pairs[:, 0]] == bits[1][pairs[:, 1]]
            weights, _ = boosted(weights, torch.where(agree, signs, -signs))
            for side in (0, 1):
                found[side].append(directions[side])
        for side, name in enumerate(views):
            self.view(name).set(means[name], torch.from_numpy(np.stack(found[side], 1)) / scales[name])

    def _bit(
        self,
        items: list[np.ndarray],
        pairs: np.ndarray,
        similar: np.ndarray,
        weights: np.ndarray,
        generator: torch.Generator,
    ) -> tuple[list[np.ndarray], list[float]]:
        """Directions of either view from a random start, and the objective on the way."""
        directions = [torch.randn(x.shape[1], generator=generator, dtype=torch.float64).numpy() for x in items]
        directions = [w / np.sqrt(np.square(x @ w).mean()) for x, w in zip(items, directions, strict=True)]
        # Items of unit total variance bound what a pair's square adds to the curvature, on average.
        smoothness = self.decay + 2 * self.gamma

        def problem(side: int) -> Problem:
            partners = (items[1 - side] @ directions[1 - side])[pairs[:, 1 - side]]
            return Problem(items[side], pairs[:, side], partners, similar, weights, self.gamma, self.decay)

        def held(side: int) -> float:
            """The other view's margins and decay, which are constant while one is learnt."""
            other = directions[1 - side]
            margins = np.maximum(1 - np.abs(items[1 - side] @ other), 0).mean()
            return float(margins + self.decay / 2 * other @ other)

        objectives = [problem(0).objective(directions[0]) + held(0)]
        for _ in range(self.rounds):
            for side in (0, 1):
                part = problem(side)
                directions[side] = part.descend(directions[side], self.steps, smoothness, generator)
                objectives.append(part.objective(directions[side]) + held(side))
        return directions, objectives
