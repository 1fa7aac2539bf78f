"""ITQ of a stream: principal components from decayed moments, rotated on a sample of the items seen."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.linear_map import project_centred
from deephash.functional.procrustes import procrustes_rotation, random_orthogonal
from deephash.functional.reservoir import reservoir_places
from deephash.functional.running_moments import check_half_life, decay_weights, update_moments
from deephash.projections.itq import sign_correlation
from deephash.projections.online.base import OnlineProjection
from deephash.projections.online.streaming_pcah import leading_components
from deephash.validation import check_count, check_directions


def quantising_rotation(projections: Tensor, start: Tensor, iterations: int) -> Tensor:
    """ITQ's rotation by alternating minimisation from a given start.

    Args:
        projections: V, floating (n, k), centred.
        start: R float64 (k, k), orthogonal.
        iterations: rounds.

    Returns:
        R float64 (k, k), orthogonal, with a quantisation error no larger than the start's.
    """
    rotation = start
    for _ in range(iterations):
        rotation, _ = procrustes_rotation(sign_correlation(projections, rotation))
    return rotation


@final
class StreamingITQ(OnlineProjection):
    """ITQ whose components follow a stream, and whose rotation is taken along.

    Mean and scatter are sufficient for the components, not for the rotation: that is learnt on a uniform sample of the
    items seen, held in a reservoir. A new rotation starts from the old one, carried over to the new components, so that
    a bit goes on meaning what it meant and few codes change; with `carried=False` each starts from the same random
    matrix. Then, without decay and while the reservoir holds all items, this is ITQ of all items, up to rounding.
    Known weakness: no labels; the reservoir remembers what a half-life would have it forget.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        iterations: rounds of alternating minimisation a batch. The paper's 50, from a random start, change more codes
            than they are worth from a rotation that is carried: on validation queries 10 were better.
        half_life: items after which one counts half in mean and scatter; None: all count the same.
        capacity: items of the reservoir.
        carried: whether a rotation starts from the one before.

    Raises:
        InvalidInputError: iterations or capacity below 1, more projections than dimensions, or than directions in
            which the first batch varies.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011; Vitter,
        "Random sampling with a reservoir", ACM TOMS 1985.
    """

    minimum_rows: ClassVar[int] = 2
    in_given_order: ClassVar[bool] = True
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)

    mean: Tensor
    weight: Tensor
    stream_mean: Tensor
    scatter: Tensor
    sample: Tensor
    start: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        iterations: int = 10,
        half_life: float | None = None,
        capacity: int = 2000,
        carried: bool = True,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"StreamingITQ can give for d={input_dim} features")
        check_count(iterations, "iterations")
        check_half_life(half_life)
        check_count(capacity, "capacity")
        self.iterations = iterations
        self.half_life = half_life
        self.capacity = capacity
        self.carried = carried
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("stream_mean", torch.zeros(input_dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(input_dim, input_dim, dtype=torch.float64))
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("start", torch.eye(output_dim, dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, W being the principal directions, rotated; its columns stay orthonormal."""
        return project_centred(features, self.mean, self.directions)

    def function_weights(self) -> Tensor:
        """Directions and thresholds."""
        return torch.cat([self.directions.detach(), (self.mean @ self.directions.detach())[None]])

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        for statistic in (self.weight, self.stream_mean, self.scatter, self.sample, self.directions):
            statistic.zero_()
        self.start.copy_(random_orthogonal(self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        seen = int(self.seen)
        weights, remains = decay_weights(len(features), self.half_life)
        update_moments(self.weight, self.stream_mean, self.scatter, features, weights, remains)
        rows, places = reservoir_places(seen, len(features), self.capacity, generator)
        self.sample[places] = features[rows].to(self.sample.dtype)
        held = self.sample[: min(seen + len(features), self.capacity)]
        carried, before = self.carried and seen > 0, self(held)
        components, variances = leading_components(self.scatter / self.weight, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {seen + len(features)} items so far vary")
        self.mean.copy_(self.stream_mean)
        projections = project_centred(held, self.mean, components.to(self.mean.dtype))
        start = procrustes_rotation(projections.double().T @ before.double())[0] if carried else self.start
        self.directions.copy_(components @ quantising_rotation(projections, start, self.iterations))
