"""A linear projection trained on a stream, by gradient steps on average precision among new items and a reservoir."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.label import Label
from deephash.codes import hard_bits
from deephash.functional.drift_detector import build_detector
from deephash.functional.linear_map import project_centred
from deephash.functional.reservoir import reservoir_places
from deephash.losses.ap import AP
from deephash.losses.batch import TrainingBatch
from deephash.projections.itq_cca import ITQCCA
from deephash.projections.online.base import OnlineProjection, count_classes, make_indicators
from deephash.validation import check_count, check_positive

# The defaults of Adam (Kingma & Ba, ICLR 2015).
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
# Number of signals, one per item, after which the detector restarts.
MEMORY = 2000


def nearest_shares_label(codes: Tensor, labels: Tensor, held: Tensor, held_labels: Tensor) -> Tensor:
    """Return whether each item shares a label with the nearest held item; of equally near held items, the first counts.

    Args:
        codes: bool (n, k).
        labels: bool (n, c).
        held: codes, bool (m, k), m >= 1.
        held_labels: bool (m, c).

    Returns:
        float32 (n,), 1 if it does.
    """
    signs, others = codes.float() * 2 - 1, held.float() * 2 - 1
    nearest = (signs @ others.T).argmax(1)
    return (labels & held_labels[nearest]).any(1).float()


@final
class StreamingJoint(OnlineProjection):
    """Joint training on a stream: learns directions by gradient steps on the average precision among recent items.

    Directions start from ITQ+CCA of the first batch. In each step, the items of the batch and some items of a reservoir
    (replay) are queries against each other, and Adam lowers the tie-aware 1 - mAP of their smooth codes. Optionally, a
    drift detector of the library river observes whether an item's nearest item in the reservoir is of the same class.
    When it finds a change, the reservoir and the moments of Adam restart, because earlier items no longer represent the
    stream.
    Known weakness: step size and number of steps must be chosen, and training is slower than closed-form methods.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        rate: step size of Adam, as a share of the root mean square weight of the initial directions.
        steps: number of gradient steps per batch.
        replay: number of items of the reservoir in each step.
        capacity: number of items in the reservoir.
        detector: a detector of river.drift, such as "ADWIN"; None for no detector.
        classes: number of classes c that the reservoir has room for; it grows with the labels.

    Attributes:
        alarms: int64 scalar, number of changes that the detector has found.

    Raises:
        InvalidInputError: a number is below 1, the rate is not above 0, the detector is unknown, or river is not
            installed; in the first batch, all items have the same labels.

    References:
        He, Cakir, Bargal & Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018, for the loss; Vitter, "Random
        sampling with a reservoir", ACM TOMS 1985. The combination is ours.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2

    mean: Tensor
    moments: Tensor
    size: Tensor
    taken: Tensor
    held: Tensor
    alarms: Tensor
    sample: Tensor
    sample_labels: Tensor
    signals: Tensor
    told: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        rate: float = 0.01,
        steps: int = 5,
        replay: int = 200,
        capacity: int = 1000,
        detector: str | None = None,
        classes: int = 1,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_positive(rate, "rate")
        for name, value in (("steps", steps), ("replay", replay), ("capacity", capacity), ("classes", classes)):
            check_count(value, name)
        if detector is not None:
            build_detector(detector, {})
        self.rate = rate
        self.steps = steps
        self.replay = replay
        self.capacity = capacity
        self.detector = detector
        self.classes = classes
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("moments", torch.zeros(2, input_dim, output_dim))
        self.register_buffer("size", torch.ones(()))
        # The names are in saved files. prose: off
        for counter in ("taken", "held", "alarms", "told"):
            # prose: on
            self.register_buffer(counter, torch.tensor(0))
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("sample_labels", torch.zeros(capacity, classes, dtype=torch.bool))
        self.register_buffer("signals", torch.zeros(MEMORY))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W."""
        return project_centred(features, self.mean, self.directions)

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        start = ITQCCA(self.input_dim, self.output_dim).to(self.directions)
        start.fit(features, labels=labels, generator=generator)
        self.mean.copy_(start.mean)
        # Scale to unit mean square, so that smooth codes are neither flat nor hard.
        self.directions.copy_(start.directions / start(features).square().mean().sqrt())
        self.size.copy_(self.directions.square().mean().sqrt())
        for state in (self.moments, self.taken, self.held, self.alarms, self.told, self.sample, self.signals):
            state.zero_()
        self.classes = 1
        self.sample_labels = self.sample_labels.new_zeros(self.capacity, 1)

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        features = features.to(self.directions.dtype)
        self._add_classes(count_classes(labels))
        indicators = make_indicators(labels, self.classes).to(features.device)
        if self._has_changed(features, indicators):
            self.alarms += 1
            for state in (self.moments, self.taken, self.held):
                state.zero_()
        for _ in range(self.steps):
            held = int(self.held.clamp_max(self.capacity))
            chosen = torch.randperm(held, generator=generator)[: self.replay].to(features.device)
            rows = torch.cat([features, self.sample[chosen].to(features)])
            self._step(rows, torch.cat([indicators, self.sample_labels[chosen]]))
        rows, places = reservoir_places(int(self.held), len(features), self.capacity, generator)
        self.sample[places], self.sample_labels[places] = features[rows].to(self.sample), indicators[rows]
        self.held += len(features)

    def _step(self, features: Tensor, indicators: Tensor) -> None:
        """Take one step of Adam."""
        neighbours = (
            Label().fit(features, indicators).supervise(features, indicators).among(torch.arange(len(features)))
        )
        with torch.enable_grad():
            weights = self.directions.detach().clone().requires_grad_()
            projections = project_centred(features, self.mean, weights)
            batch = TrainingBatch(
                torch.tanh(projections),
                projections,
                features,
                torch.arange(len(features)),
                neighbours=neighbours.to(features.device),
            )
            (gradient,) = torch.autograd.grad(AP()(batch), weights)
        self.taken += 1
        self.moments[0].lerp_(gradient, 1 - FIRST_DECAY)
        self.moments[1].lerp_(gradient.square(), 1 - SECOND_DECAY)
        first = self.moments[0] / (1 - FIRST_DECAY ** int(self.taken))
        second = self.moments[1] / (1 - SECOND_DECAY ** int(self.taken))
        self.directions.sub_(self.rate * self.size * first / (second.sqrt() + EPSILON))

    def _has_changed(self, features: Tensor, indicators: Tensor) -> bool:
        """Return whether the detector, after replaying earlier signals, finds a change in these items' signals."""
        if self.detector is None or int(self.held) == 0:
            return False
        held = int(self.held.clamp_max(self.capacity))
        codes, held_codes = hard_bits(self(features)), hard_bits(self(self.sample[:held]))
        signals = nearest_shares_label(codes, indicators, held_codes, self.sample_labels[:held])[:MEMORY]
        if int(self.told) + len(signals) > MEMORY:
            self.told.zero_()
        detector = build_detector(self.detector, {})
        for signal in self.signals[: int(self.told)].tolist():
            detector.update(signal)
        changed = False
        for signal in signals.tolist():
            detector.update(signal)
            changed |= bool(detector.drift_detected)
        self.signals[int(self.told) : int(self.told) + len(signals)] = signals
        self.told += len(signals)
        if changed:
            self.told.zero_()
        return changed

    def _add_classes(self, classes: int) -> None:
        if classes > self.classes:
            self.sample_labels = nn.functional.pad(self.sample_labels, (0, classes - self.classes))
            self.classes = classes
