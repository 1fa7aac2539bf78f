"""Online MIHash: information between distances and neighbourhood, item by item (Cakir et al., ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.principal_components import feature_mean
from deephash.functional.reservoir import reservoir_places
from deephash.functional.soft_histogram import check_bins
from deephash.functional.unit_features import random_unit_directions, unit_features
from deephash.projections.online.base import OnlineProjection
from deephash.validation import check_count, check_number, check_positive


def information_gradient(code: Tensor, held: Tensor, neighbours: Tensor, bins: int) -> Tensor:
    """Gradient of the information that an item's distances from a reservoir hold on its neighbours, in the item's code.

    Histograms are triangular: an item at a distance between two bins adds to both. As in the paper the reservoir's own
    codes are taken as given. I = Σ p(l, c) log p(l, c) / (p(l) p(c)) has the slope log p(l, c) / p(l) in a share
    p(l, c), but for what is the same in all bins; and an item that moves takes from one bin what it gives to the next.

    Args:
        code: of the item, smooth, floating (k,), in [-1, 1].
        held: codes of the reservoir, likewise, (m, k).
        neighbours: bool (m,), which of it are the item's neighbours.
        bins: of the histograms, from distance 0 to k.

    Returns:
        (k,), in nats.
    """
    k, m = len(code), len(held)
    width = k / (bins - 1)
    places = (k - held @ code) / (2 * width)
    lower = places.long().clamp(0, bins - 2)
    upper_share = places - lower
    kind = neighbours.long()
    joint = held.new_zeros(2 * bins)
    joint.index_add_(0, kind * bins + lower, (1 - upper_share) / m)
    joint.index_add_(0, kind * bins + lower + 1, upper_share / m)
    joint = joint.view(2, bins)
    least = torch.finfo(joint.dtype).eps
    slopes = (joint.clamp_min(least) / joint.sum(0).clamp_min(least)).log()
    by_distance = (slopes[kind, lower + 1] - slopes[kind, lower]) / (width * m)
    return -(by_distance @ held) / 2


@final
class OnlineMIHash(OnlineProjection):
    """Hyperplanes that raise the mutual information between distance and neighbourhood, against a reservoir.

    Each item is compared with a uniform sample of those before it; its step needs neither margins nor code distances to
    aim at. Features are centred by the first batch's mean and scaled to unit length.
    Known weakness: information does not know which way round neighbours lie; a small reservoir holds few neighbours of
    a class among many; steps fall with time, so that late drifts are followed slowly.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, any.
        capacity: items of the reservoir; 200 in the paper.
        step_size: of the gradient; 1 in the authors' code.
        decay: of the step size, which is divided by 1 + decay · items; .0001 there.
        scale: steepness of the smooth codes.
        bins: of the distance histograms; 16 intervals, hence 17, in the authors' code.
        classes: number of classes c that the reservoir has room for; it grows with the labels that come.

    Raises:
        InvalidInputError: capacity below 1, bins below 2, step_size or scale not above 0, decay below 0.

    References:
        Cakir, He, Bargal & Sclaroff, "MIHash: online hashing with mutual information", ICCV 2017.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    mean: Tensor
    sample: Tensor
    sample_labels: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        capacity: int = 200,
        step_size: float = 1.0,
        decay: float = 0.0001,
        scale: float = 10.0,
        bins: int = 17,
        classes: int = 1,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(capacity, "capacity")
        check_positive(step_size, "step_size")
        check_number(decay, "decay")
        check_positive(scale, "scale")
        check_bins(bins)
        check_count(classes, "classes")
        self.capacity = capacity
        self.step_size = step_size
        self.decay = decay
        self.scale = scale
        self.bins = bins
        self.classes = classes
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("sample_labels", torch.zeros(capacity, classes, dtype=torch.bool))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Inner products of unit features with directions."""
        return unit_features(features, self.mean) @ self.directions

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.mean.copy_(feature_mean(features))
        self.sample.zero_()
        self.classes = 1
        self.sample_labels = self.sample_labels.new_zeros(self.capacity, 1)
        self.directions.copy_(random_unit_directions(self.input_dim, self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        seen, half = int(self.seen), self.scale / 2
        inputs = unit_features(features, self.mean)
        indicators = self._indicators(labels).to(features.device)
        weights = self.directions.detach().clone()
        margins = self.sample.to(weights) @ weights
        for i, (x, own) in enumerate(zip(inputs, indicators, strict=True)):
            held = min(seen + i, self.capacity)
            neighbours = (self.sample_labels[:held] & own).any(1)
            code = torch.tanh(half * (x @ weights))
            # Where all are neighbours, or none, there is nothing to tell.
            if 0 < int(neighbours.sum()) < held:
                gradient = information_gradient(code, torch.tanh(half * margins[:held]), neighbours, self.bins)
                step = self.step_size / (1 + self.decay * (seen + i)) * half * gradient * (1 - code.square())
                weights += torch.outer(x, step)
                margins += torch.outer(self.sample.to(x) @ x, step)
            rows, places = reservoir_places(seen + i, 1, self.capacity, generator)
            if len(rows):
                self.sample[places], self.sample_labels[places] = x.to(self.sample), own
                margins[places] = x @ weights
        self.directions.copy_(weights)

    def _indicators(self, labels: Tensor) -> Tensor:
        """Labels as bool (n, c), with room for those of the reservoir and these."""
        classes = labels.shape[1] if labels.ndim > 1 else int(labels.max()) + 1
        if classes > self.classes:
            self.sample_labels = torch.nn.functional.pad(self.sample_labels, (0, classes - self.classes))
            self.classes = classes
        if labels.ndim > 1:
            return torch.nn.functional.pad(labels, (0, self.classes - classes))
        return torch.nn.functional.one_hot(labels, self.classes).bool()
