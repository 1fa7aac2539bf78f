"""Base class of quantisers: continuous projections (n, k) → bits (n, b)."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity, check_supervision
from deephash.conversion import PlainArguments
from deephash.ranking.distance import Distance
from deephash.validation import NotFittedError, as_features, as_labels, check_bits


class Quantizer(PlainArguments, nn.Module, ABC):
    """Thresholds that cut continuous projections into bits.

    Subclasses implement `projection_dim`, `distance`, `_fit`, `forward`, `unary` and `quantize`. `forward` and `unary`
    use a relaxation, so that gradients pass. If the relaxation is hard, `forward(z) >= 0` equals `quantize(z)`, and
    Hamming distances of `unary(z)` equal the distances by which codes are ranked.

    Shape:
        projections (n, k) → bits (n, b).

    Args:
        bits: code length b.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Supervision that `fit` requires: a subset of {"labels", "affinity"}."""

    fits_on_shares: ClassVar[bool] = False
    """Whether `fit` reads rows only through sums, or not at all, so that several processes can each fit on a share."""

    is_fitted: Tensor
    unit: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits)
        self.bits = bits
        self.register_buffer("is_fitted", torch.tensor(False))
        # The unit matters in training but not for the codes, so it is not stored with the weights.
        self.register_buffer("unit", torch.tensor(1.0), persistent=False)

    @property
    @abstractmethod
    def projection_dim(self) -> int:
        """Number of projections k that b bits need."""

    @property
    @abstractmethod
    def distance(self) -> Distance:
        """Distance by which codes of this quantiser are ranked."""

    @abstractmethod
    def forward(self, projections: Tensor) -> Tensor:
        """Return relaxed bits in [-1, 1], (n, k) → (n, b), differentiable in projections and thresholds."""

    @abstractmethod
    def unary(self, projections: Tensor) -> Tensor:
        """Return a relaxed code whose Hamming distances are the ranking distances, (n, k) → (n, l), differentiable.

        If codes are ranked by Hamming distance, it consists of the relaxed bits. If they are ranked by Manhattan
        distance of the regions' numbers, it has one relaxed step per threshold: the region's number in unary. The
        distance of two codes u and v in [-1, 1] is (l - u·v) / 2, which losses use; l is the largest distance.
        """

    @abstractmethod
    def quantize(self, projections: Tensor) -> Tensor:
        """Return hard bits, (n, k) → bool (n, b)."""

    @abstractmethod
    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """Learn the thresholds in place from checked input; gradients are disabled."""

    @torch.no_grad()
    def fit(
        self,
        projections: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn the thresholds by the algorithm of the subclass.

        Args:
            projections: floating (n, k) of the training items; not changed.
            labels: class indices int64 (n,) or indicator bool (n, c), if the method uses them.
            affinity: neighbours among the training items, if the method uses them: the result of an affinity's
                `supervise`, because the features are not available here.
            generator: CPU generator of every random draw; None for one seeded with 0.

        Returns:
            self, fitted, on the device of its thresholds.

        Raises:
            InvalidInputError: projections or labels are invalid, or required supervision is missing.
        """
        projections = as_features(projections, self.projection_dim, 1, "projections")
        if labels is not None:
            labels = as_labels(labels, len(projections), "training labels")
        check_supervision(type(self).__name__, self.requires, labels, affinity, len(projections))
        generator = generator or torch.Generator().manual_seed(0)
        self.unit = torch.ones((), dtype=self.unit.dtype, device=self.unit.device)
        self._fit(projections.to(self.is_fitted.device), labels, affinity, generator)
        self.is_fitted.fill_(True)
        return self

    @torch.no_grad()
    def calibrate(self, projections: Tensor) -> Self:
        """Set the unit of margins in `forward` and `unary` to each projection's mean absolute deviation.

        Relaxations expect margins of about 1, and projections can have any scale. Codes do not change.

        Args:
            projections: floating (n, k) of the training items.

        Returns:
            self.
        """
        deviation = (projections - projections.mean(0)).abs().mean(0)
        # A constant projection has no scale.
        self.unit = torch.where(deviation > 0, deviation, 1.0).to(self.unit)
        return self

    def scale_to_units(self, projections: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections (n, k) and their thresholds (k, T), divided by the unit of each projection.

        Both may be of the first projections only.
        """
        unit = self.unit.to(thresholds.dtype).expand(self.projection_dim)[: len(thresholds)]
        return projections / unit, thresholds / unit[:, None]

    def check_fitted(self) -> None:
        """Raise an error if this quantiser is not fitted.

        Raises:
            NotFittedError: the quantiser was neither fitted nor loaded.
        """
        if not bool(self.is_fitted):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first, or load a saved hasher.")
