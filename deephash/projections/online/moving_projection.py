"""The base classes of linear online projections whose mean follows the stream."""

import torch
from torch import Tensor, nn

from deephash.functional.linear_map import project_centred
from deephash.functional.procrustes import procrustes_rotation, random_orthogonal
from deephash.functional.reservoir import reservoir_places
from deephash.functional.running_moments import check_half_life, decay_weights, update_moments
from deephash.projections.itq import sign_correlation
from deephash.projections.online.base import OnlineProjection
from deephash.validation import check_count


class MovingProjection(OnlineProjection):
    """Linear map (X - μ) W, where the stream moves both μ and W. Subclasses implement `_start` and `_learn`."""

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W."""
        return project_centred(features, self.mean, self.directions)

    def function_weights(self) -> Tensor:
        """Return directions and thresholds."""
        return torch.cat([self.directions.detach(), (self.mean @ self.directions.detach())[None]])


class MomentProjection(MovingProjection):
    """A linear projection learnt from the decayed mean and scatter of a stream.

    With `classes` above 0, moments of that number of label indicators are kept beside those of the features.
    """

    weight: Tensor
    stream_mean: Tensor
    scatter: Tensor

    def __init__(self, input_dim: int, output_dim: int, half_life: float | None, classes: int = 0) -> None:
        super().__init__(input_dim, output_dim)
        check_half_life(half_life)
        self.half_life = half_life
        size = input_dim + classes
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("stream_mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(size, size, dtype=torch.float64))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        for statistic in (self.weight, self.stream_mean, self.scatter):
            statistic.zero_()

    def _update_moments(self, rows: Tensor) -> None:
        weights, remains = decay_weights(len(rows), self.half_life)
        update_moments(self.weight, self.stream_mean, self.scatter, rows, weights, remains)


def quantising_rotation(projections: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Learn the rotation of ITQ by alternating minimisation from a given start.

    Args:
        projections: V, floating (n, k), centred.
        start: R float64 (k, k), orthogonal.
        iterations: number of iterations.

    Returns:
        R float64 (k, k), orthogonal, with a quantisation error no larger than that of the start.
    """
    rotation = start
    for _ in range(iterations):
        rotation, _ = procrustes_rotation(sign_correlation(projections, rotation))
    return rotation


class RotatedProjection(MomentProjection):
    """Directions from the moments of a stream, rotated by ITQ on a reservoir of its items.

    A new rotation starts from the previous one, transferred to the new directions, so that bits keep their meaning and
    few codes change. With `carried=False`, every rotation starts from the same random matrix.
    """

    sample: Tensor
    start: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        iterations: int,
        half_life: float | None,
        capacity: int,
        carried: bool,
        classes: int = 0,
    ) -> None:
        super().__init__(input_dim, output_dim, half_life, classes)
        check_count(iterations, "iterations")
        check_count(capacity, "capacity")
        self.iterations = iterations
        self.capacity = capacity
        self.carried = carried
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("start", torch.eye(output_dim, dtype=torch.float64))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        super()._start(features, labels, generator)
        self.sample.zero_()
        self.directions.zero_()
        self.start.copy_(random_orthogonal(self.output_dim, generator))

    def _add_to_sample(self, features: Tensor, generator: torch.Generator) -> int:
        """Add a batch to the reservoir and return the number of items that it holds."""
        seen = int(self.seen)
        rows, places = reservoir_places(seen, len(features), self.capacity, generator)
        self.sample[places] = features[rows].to(self.sample.dtype)
        return min(seen + len(features), self.capacity)

    def _rotate(self, directions: Tensor, held: int, carried: bool) -> None:
        """Set the mean to that of the stream, and W to the directions (d, k), rotated on the items of the reservoir."""
        sample = self.sample[:held]
        previous = self(sample)
        self.mean.copy_(self.stream_mean[: self.input_dim])
        projections = project_centred(sample, self.mean, directions.to(self.mean.dtype))
        start = self.start
        if carried:
            # The rotation that brings the new projections of the sample nearest to the previous ones.
            start = procrustes_rotation(projections.double().T @ previous.double())[0]
        self.directions.copy_(directions @ quantising_rotation(projections, start, self.iterations))
