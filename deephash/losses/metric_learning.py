"""Losses of the pytorch-metric-learning library, on codes (Musgrave, Belongie & Lim, 2020)."""

from typing import ClassVar, final

from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class MetricLearning(Loss):
    """A loss of another library, and perhaps a miner that picks the pairs or triplets it looks at.

    Any object serves that is called with embeddings and class indices, as `pytorch_metric_learning.losses` are; the
    library is an extra: pip install "deephash[metric-learning]". Known weakness: most of its losses compare directions
    of embeddings or Euclidean distances, and a margin that suits an embedding need not suit bits; classes with weights
    of their own, as proxies, take the code length by their own argument and start at torch's default generator.

    Shape:
        codes (n, l), labels (n,) → scalar.

    Args:
        criterion: called with codes and labels, and with what the miner gave.
        miner: called with codes and labels; None for what the criterion itself chooses.

    References:
        Musgrave, Belongie & Lim, "PyTorch metric learning", arXiv:2008.09164, 2020; and the paper of each loss.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"single_labels"})

    def __init__(self, criterion: nn.Module, miner: nn.Module | None = None) -> None:
        super().__init__()
        self.criterion, self.miner = criterion, miner

    def forward(self, batch: TrainingBatch) -> Tensor:
        """The criterion of the codes, on what the miner picks."""
        loss: Tensor
        if self.miner is None:
            loss = self.criterion(batch.codes, batch.labels)
        else:
            loss = self.criterion(batch.codes, batch.labels, self.miner(batch.codes, batch.labels))
        return loss
