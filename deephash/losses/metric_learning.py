"""Losses of the library pytorch-metric-learning, applied to codes (Musgrave, Belongie & Lim, 2020)."""

from typing import ClassVar, final

from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class MetricLearning(Loss):
    """Metric learning: applies a loss of another library to codes, optionally with a miner of pairs or triplets.

    The loss is any object that is called with embeddings and class indices, such as those of
    `pytorch_metric_learning.losses`. This library is optional: pip install "deephash[metric-learning]".
    Known weakness: most of its losses compare directions or Euclidean distances of embeddings, and a margin for
    embeddings may not suit bits. A loss with weights, such as proxies, has its own argument for the code length;
    torch's default generator initialises the weights.

    Shape:
        codes (n, l), labels (n,) → scalar.

    Args:
        criterion: called with codes and labels, and with the output of the miner if there is one.
        miner: called with codes and labels; None if the criterion selects pairs itself.

    References:
        Musgrave, Belongie & Lim, "PyTorch metric learning", arXiv:2008.09164, 2020; and the paper of each loss.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"single_labels"})

    def __init__(self, criterion: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.criterion, self.miner = criterion, miner

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Apply the criterion to the codes and the miner's selection."""
        loss: Tensor
        if self.miner is None:
            loss = self.criterion(batch.codes, batch.labels)
        else:
            loss = self.criterion(batch.codes, batch.labels, self.miner(batch.codes, batch.labels))
        return loss
