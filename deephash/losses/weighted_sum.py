"""A weighted sum of losses."""

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number


@final
class WeightedSum(nn.Module):
    """Σ weight · loss, with each term kept under its name for the log.

    Args:
        losses: losses by name.
        weights: a finite number for each name; 0 leaves a loss out.

    Raises:
        InvalidInputError: no loss has a non-zero weight, or a weight is not a finite number.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        for name in losses:
            check_number(weights[name], f"loss.{name}.weight")
        self.weights = {name: float(weights[name]) for name in losses if weights[name] != 0}
        if not self.weights:
            raise InvalidInputError(
                "joint training has no loss; choose one, such as loss=ap, or several, such as loss=[ap,balance]."
            )
        self.losses = nn.ModuleDict({name: losses[name] for name in self.weights})

    @property
    def requires(self) -> frozenset[str]:
        """Union of the requirements of the losses."""
        return frozenset().union(*(loss.requires for loss in self.losses.values()))  # type: ignore[arg-type]

    def forward(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, a scalar, and each loss before weighting."""
        terms: dict[str, Tensor] = {name: loss(batch) for name, loss in self.losses.items()}
        total = sum(self.weights[name] * term for name, term in terms.items())
        assert isinstance(total, Tensor)
        return total, terms
