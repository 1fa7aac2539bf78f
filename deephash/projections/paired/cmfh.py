"""Collective matrix factorisation hashing (Ding, Guo & Zhou, CVPR 2014)."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.pair_covariances import pair_covariances
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.validation import InvalidInputError, check_count, check_positive

# Factors with a smaller variance, for views of unit variance, have vanished under the regularisation.
VANISHED = 1e-12


def collective_factors(
    joint: Tensor, split: int, start: Tensor, weight: float, linearity: float, regularisation: float, rounds: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Alternate the closed-form minima of the objective over U_t, W_t and V; each step lowers it.

    With centred rows x, y and factors v of the n items, the objective is the mean over the items of

    λ ‖x - U₁v‖² + (1 - λ) ‖y - U₂v‖² + μ (‖v - W₁x‖² + ‖v - W₂y‖²) + γ ‖v‖², plus γ (ΣU_t² + ΣW_t²).

    The minimum over V is linear in the items, V = A [x; y]. So A and the covariance of both views replace the n
    factors, and the cost of a round does not depend on the number of items.

    Args:
        joint: covariance of [x; y], float64 (d + e, d + e).
        split: dimension d of the first view.
        start: initial A, float64 (k, d + e).
        weight: λ, weight of the first view's reconstruction against the second's.
        linearity: μ, weight of the linear maps against the reconstructions.
        regularisation: γ.
        rounds: number of alternations, the last ending with W_t.

    Returns:
        W₁ (k, d), W₂ (k, e), A (k, d + e), and the objective after each round, float64 (rounds,).
    """
    sides = slice(None, split), slice(split, None)
    shares = weight, 1 - weight
    identity = torch.eye(len(start), dtype=joint.dtype, device=joint.device)
    inverses = [
        torch.linalg.inv(
            joint[side, side]
            + regularisation / linearity * torch.eye(len(joint), dtype=joint.dtype)[side, side].to(joint)
        )
        for side in sides
    ]
    objectives = torch.empty(rounds, dtype=torch.float64)
    factors = start
    for step in track(range(rounds), "CMFH"):
        with_views, spread = factors @ joint, factors @ joint @ factors.T
        bases = [
            torch.linalg.solve(spread + regularisation / share * identity, with_views[:, side]).T
            for side, share in zip(sides, shares, strict=True)
        ]
        maps = [with_views[:, side] @ inverse for side, inverse in zip(sides, inverses, strict=True)]
        if step:
            objectives[step - 1] = _compute_objective(
                joint, sides, shares, factors, bases, maps, linearity, regularisation
            )
        system = sum(share * base.T @ base for share, base in zip(shares, bases, strict=True))
        system = system + (2 * linearity + regularisation) * identity
        pulls = [s * base.T + linearity * w for s, base, w in zip(shares, bases, maps, strict=True)]
        factors = torch.linalg.solve(system, torch.cat(pulls, 1))
    with_views = factors @ joint
    maps = [with_views[:, side] @ inverse for side, inverse in zip(sides, inverses, strict=True)]
    objectives[-1] = _compute_objective(joint, sides, shares, factors, bases, maps, linearity, regularisation)
    return maps[0], maps[1], factors, objectives


def _compute_objective(
    joint: Tensor,
    sides: tuple[slice, slice],
    shares: tuple[float, float],
    factors: Tensor,
    bases: list[Tensor],
    maps: list[Tensor],
    linearity: float,
    regularisation: float,
) -> Tensor:
    """Compute the objective of `collective_factors`; every mean of squares is a quadratic form of the covariance."""
    identity = torch.eye(len(joint), dtype=joint.dtype, device=joint.device)

    def mean_square(weights: Tensor) -> Tensor:
        return ((weights @ joint) * weights).sum()

    total = regularisation * mean_square(factors)
    for side, share, base, mapped in zip(sides, shares, bases, maps, strict=True):
        total = total + share * mean_square(identity[side] - base @ factors)
        total = total + linearity * mean_square(factors - mapped @ identity[side])
        total = total + regularisation * (base.square().sum() + mapped.square().sum())
    return total


@final
class CMFH(PairedProjection):
    """Collective matrix factorisation hashing: learns factors that reconstruct both views, and linear maps to them.

    The factors of an item describe what its views have in common, for example topics that a picture shows and a text
    mentions. Each view has a linear map that predicts the factors, and the signs of the predictions are the bits. Any
    rotation of the factors is equally good, so they start at random. Longer codes keep improving even if a view has
    few dimensions.
    Known weakness: the factors follow the directions in which features vary most, relevant or not; γ determines their
    number, because it removes factors of little weight, as a threshold removes small singular values.

    Shape:
        features (n, d of the view) → projections (n, k), W_t (x - mean).

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k.
        weight: λ, weight of the first view's reconstruction against the second's. The default was chosen on held-out
            pairs of Wiki, whose images vary in many ways that are unrelated to the texts; there the paper's .5 for
            unscaled features corresponds to .16. Use .5 for views that count equally, and more if the second view is
            less informative.
        linearity: μ, weight of the linear maps against the reconstructions; 100 as in the paper.
        regularisation: γ, for views scaled to unit total variance and means over items, so that neither the scale nor
            the number of features matters. The default was chosen on held-out pairs of Wiki, where it corresponds to
            about .01 for the unscaled sums of the paper.
        rounds: number of alternations; the objective hardly changes after 30.

    Attributes:
        objectives: float64 (rounds,), the objective after each round of the last fit; it never rises.
        learnt_codes: bool (n, k), signs of the training pairs' own factors, which use both views; the paper stores
            these unified codes for the items of its database.

    Raises:
        InvalidInputError: a setting is out of range; in `fit`, a view does not vary, or the factors vanish under the
            regularisation.

    References:
        Ding, Guo & Zhou, "Collective matrix factorization hashing for multimodal data", CVPR 2014, Equations 4 to 12.
    """

    objectives: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        weight: float = 0.2,
        linearity: float = 100.0,
        regularisation: float = 2e-4,
        rounds: int = 50,
    ) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(weight, "weight")
        if weight >= 1:
            raise InvalidInputError(
                f"weight={weight!r}; expected a number between 0 and 1, .5 for views that count equally."
            )
        check_positive(linearity, "linearity")
        check_positive(regularisation, "regularisation")
        check_count(rounds, "rounds")
        self.weight = weight
        self.linearity = linearity
        self.regularisation = regularisation
        self.rounds = rounds
        self.register_buffer("objectives", torch.zeros(rounds, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        first, second = views.values()
        *means, joint = pair_covariances(first, second)
        split = first.shape[1]
        scales = []
        for name, variances in zip(views, torch.split(joint.diagonal(), [split, second.shape[1]]), strict=True):
            if float(variances.sum()) == 0:
                raise InvalidInputError(f"all {len(first)} training items are the same in {name}; give data that vary.")
            scales.append(variances.sum().sqrt())
        scale = torch.cat([scales[0].expand(split), scales[1].expand(second.shape[1])])
        joint = joint / scale / scale[:, None]
        start = torch.randn(self.output_dim, len(joint), dtype=torch.float64, generator=generator).to(joint.device)
        start = start / ((start @ joint) * start).sum().sqrt() * self.output_dim**0.5
        *maps, factors, objectives = collective_factors(
            joint, split, start, self.weight, self.linearity, self.regularisation, self.rounds
        )
        if float(((factors @ joint) * factors).sum(1).max()) < VANISHED:
            raise InvalidInputError(
                f"regularisation={self.regularisation!r} leaves no factors of {len(first)} training pairs; lower it."
            )
        for name, mean, directions, unit in zip(views, means, maps, scales, strict=True):
            self.view(name).set_weights(mean, directions.T / unit)
        self.objectives.copy_(objectives)
        parts = torch.split((factors / scale).T, [split, second.shape[1]])
        self.learnt_codes = torch.cat(
            [
                project_centred(x, means[0], parts[0]) + project_centred(y, means[1], parts[1]) >= 0
                for x, y in zip(torch.split(first, BLOCK_ROWS), torch.split(second, BLOCK_ROWS), strict=True)
            ]
        )
