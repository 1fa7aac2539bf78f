"""The contract of a quantiser: continuous projections (n, k) → bits (n, b)."""

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

    A method writes `projection_dim`, `distance`, `_fit`, `forward`, `unary` and `quantize`. `forward` and `unary` go
    through a relaxation, so that gradients pass; where the relaxation is hard, `forward(z) >= 0` equals `quantize(z)`,
    and Hamming distances of `unary(z)` equal the distances that codes are ranked by.

    Shape:
        projections (n, k) → bits (n, b).

    Args:
        bits: code length b, the bit budget.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What `fit` needs beside projections: a subset of {"labels", "affinity"}."""

    fits_on_shares: ClassVar[bool] = False
    """Whether `fit` takes sums over rows alone, or nothing of them, so that processes can fit on shares of them."""

    is_fitted: Tensor
    unit: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits)
        self.bits = bits
        self.register_buffer("is_fitted", torch.tensor(False))
        # How relaxations see margins is a matter of training, not of the codes, so it is not stored with the weights.
        self.register_buffer("unit", torch.tensor(1.0), persistent=False)

    @property
    @abstractmethod
    def projection_dim(self) -> int:
        """Number of projections k that this bit budget needs."""

    @property
    @abstractmethod
    def distance(self) -> Distance:
        """The distance that codes of this quantiser are ranked by."""

    @abstractmethod
    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits in [-1, 1], (n, k) → (n, b), differentiable in projections and thresholds."""

    @abstractmethod
    def unary(self, projections: Tensor) -> Tensor:
        """Relaxed code in which ranking distances are Hamming distances, (n, k) → (n, l), differentiable.

        Where codes are ranked by Hamming distance these are the relaxed bits. Where they are ranked by Manhattan
        distance of the regions' numbers, there is one relaxed step for each threshold: a number in unary. Two codes
        u and v in [-1, 1] lie at distance (l - u·v) / 2, which is what losses are made of; l is the largest distance.
        """

    @abstractmethod
    def quantize(self, projections: Tensor) -> Tensor:
        """Hard bits, (n, k) → bool (n, b)."""

    @abstractmethod
    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        """Learn the thresholds in place from checked input; gradients are off."""

    @torch.no_grad()
    def fit(
        self,
        projections: Tensor | ArrayLike,
        *,
        labels: Tensor | ArrayLike | None = None,
        affinity: TrainingAffinity | None = None,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Learn the thresholds by the paper's algorithm.

        Args:
            projections: floating (n, k) of the training items; not changed.
            labels: class indices int64 (n,) or indicator bool (n, c), where the method uses them.
            affinity: which training items are neighbours, where the method uses it: what an affinity's `supervise`
                gives, for their features are not at hand here.
            generator: CPU generator of every random draw; None draws from one seeded with 0.

        Returns:
            self, fitted, on the device of its thresholds.

        Raises:
            InvalidInputError: bad projections or labels, or required supervision missing.
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
        """Measure margins in units of each projection's mean absolute deviation, in `forward` and `unary`.

        Relaxations are made for margins of about 1, and projections can be of any size. Codes stay as they are.

        Args:
            projections: floating (n, k) of the training items.

        Returns:
            self.
        """
        deviation = (projections - projections.mean(0)).abs().mean(0)
        # A constant projection has no size of its own.
        self.unit = torch.where(deviation > 0, deviation, 1.0).to(self.unit)
        return self

    def in_units(self, projections: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Projections (n, k) and their thresholds (k, T) over the unit of each projection."""
        unit = self.unit.to(thresholds.dtype).expand(self.projection_dim)
        return projections / unit, thresholds / unit[:, None]

    def check_fitted(self) -> None:
        """Raise an error if this is used before `fit`.

        Raises:
            NotFittedError: where neither `fit` nor loaded weights have set this quantiser.
        """
        if not bool(self.is_fitted):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first, or load a saved hasher.")
