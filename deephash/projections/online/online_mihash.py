"""Online MIHash: information between distances and neighbourhood, item by item (Cakir et al., ICCV 2017)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from deephash.functional.reservoir import reservoir_places
from deephash.functional.soft_histogram import check_bins
from deephash.functional.unit_features import unit_features
from deephash.projections.online.base import count_classes, make_indicators
from deephash.projections.online.unit_projection import UnitProjection
from deephash.validation import check_count, check_number, check_positive


def information_gradient(code: Tensor, held: Tensor, neighbours: Tensor, bins: int) -> Tensor:
    """Gradient of the mutual information between an item's distances and its neighbours, with respect to its code.

    The distances are to the items of a reservoir. Histograms are triangular: an item whose distance lies between two
    bins adds to both. As in the paper, the codes of the reservoir are constant. The information
    I = Σ p(l, c) log p(l, c) / (p(l) p(c)) has the derivative log p(l, c) / p(l) with respect to p(l, c), up to a term
    that is the same in all bins. An item that moves subtracts from one bin what it adds to the next.

    Args:
        code: smooth code of the item, floating (k,), in [-1, 1].
        held: smooth codes of the reservoir, (m, k).
        neighbours: bool (m,), which of them are neighbours of the item.
        bins: number of bins of the histograms, from distance 0 to k.

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
    minimum = torch.finfo(joint.dtype).eps
    slopes = (joint.clamp_min(minimum) / joint.sum(0).clamp_min(minimum)).log()
    by_distance = (slopes[kind, lower + 1] - slopes[kind, lower]) / (width * m)
    return -(by_distance @ held) / 2


@final
class OnlineMIHash(UnitProjection):
    """Online hashing with mutual information: learns hyperplanes whose distances separate neighbours from others.

    Each item is compared with a uniform sample of the previous items, and causes a gradient step on the mutual
    information between distance and neighbourhood. No margins or target distances are needed. Features are centred by
    the mean of the first batch and scaled to unit length.
    Known weakness: the information is the same if neighbours are far and others near. With many classes, a small
    reservoir contains few neighbours of an item. The step size decreases, so later drifts are followed slowly.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        capacity: number of items in the reservoir; 200 in the paper.
        step_size: step size of the gradient; 1 in the authors' code.
        decay: the step size is divided by 1 + decay · (number of items so far); .0001 in the authors' code.
        scale: steepness of the smooth codes.
        bins: number of bins of the distance histograms; 17 for the 16 intervals of the authors' code.
        classes: number of classes c that the reservoir has room for; it grows with the labels.

    Raises:
        InvalidInputError: capacity is below 1, bins is below 2, step_size or scale is not above 0, or decay is not a
            finite number.

    References:
        Cakir, He, Bargal & Sclaroff, "MIHash: online hashing with mutual information", ICCV 2017.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

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
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("sample_labels", torch.zeros(capacity, classes, dtype=torch.bool))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        super()._start(features, labels, generator)
        self.sample.zero_()
        self.classes = 1
        self.sample_labels = self.sample_labels.new_zeros(self.capacity, 1)

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        seen, half = int(self.seen), self.scale / 2
        inputs = unit_features(features, self.mean)
        self._add_classes(count_classes(labels))
        indicators = make_indicators(labels, self.classes).to(features.device)
        weights = self.directions.detach().clone()
        margins = self.sample.to(weights) @ weights
        for i, (x, classes) in enumerate(zip(inputs, indicators, strict=True)):
            held = min(seen + i, self.capacity)
            neighbours = (self.sample_labels[:held] & classes).any(1)
            code = torch.tanh(half * (x @ weights))
            # If all held items are neighbours, or none, the information is 0.
            if 0 < int(neighbours.sum()) < held:
                gradient = information_gradient(code, torch.tanh(half * margins[:held]), neighbours, self.bins)
                step = self.step_size / (1 + self.decay * (seen + i)) * half * gradient * (1 - code.square())
                weights += torch.outer(x, step)
                margins += torch.outer(self.sample.to(x) @ x, step)
            rows, places = reservoir_places(seen + i, 1, self.capacity, generator)
            if len(rows):
                self.sample[places], self.sample_labels[places] = x.to(self.sample), classes
                margins[places] = x @ weights
        self.directions.copy_(weights)

    def _add_classes(self, classes: int) -> None:
        if classes > self.classes:
            self.sample_labels = pad(self.sample_labels, (0, classes - self.classes))
            self.classes = classes
