"""Settings of joint training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deephash.data.batches import Order
from deephash.validation import InvalidInputError, check_choice, check_count

PARTS = ("encoder", "projection", "quantizer")

Schedule = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class JointSettings:
    """Settings of joint training.

    Args:
        optimizer: function from groups of parameters to an optimiser, such as a partial of `torch.optim.AdamW`.
        schedule: function from the share of completed steps to a factor of the learning rate.
        epochs: passes over the training part.
        batch_size: items per batch, over all processes.
        moves: parts that learn, of encoder, projection and quantizer; the others stay as fitted.
        rates: factor of the learning rate by part, 1 by default; the part "loss" stands for the parameters of losses.
            The rates of projection and quantiser are relative to the size of each weight, see `compute_weight_sizes`.
        keep_orthogonal: whether weights that a projection declares orthonormal stay orthonormal.
        order: sampler of the batches, see `EpochBatches`.

    Raises:
        InvalidInputError: a part is unknown, or no part learns.
    """

    optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]
    schedule: Schedule
    epochs: int = 60
    batch_size: int = 512
    moves: Sequence[str] = PARTS
    rates: Mapping[str, float] | None = None
    keep_orthogonal: bool = True
    order: Order | None = None

    def __post_init__(self) -> None:
        check_count(self.epochs, "train.epochs")
        if not self.moves:
            raise InvalidInputError(f"train.moves=[]; name at least one part that learns, of {', '.join(PARTS)}.")
        for part in self.moves:
            check_choice(part, PARTS, "train.moves")
        for part in self.rates or {}:
            check_choice(part, (*PARTS, "loss"), "train.rates")
