"""A batch of training items as losses see it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deephash.data.items import Features


@dataclass(frozen=True)
class TrainingBatch:
    """Relaxed codes of n training items, and what is known of them.

    Tensors share a device. Of several processes each sees the whole batch here, codes of all of them joined, so that a
    loss over pairs is the same however many there are.

    Args:
        codes: floating (n, l) in [-1, 1], relaxed, in unary: two codes u, v lie at distance (l - u·v) / 2, which is
            what codes are ranked by once they are hard. Of quantisers ranked by Hamming distance these are the bits.
        projections: floating (n, k), before the quantiser, gradients pass.
        features: floating (n, d), as the hasher took them, after augmentation; of two views, `Views` of the items.
        positions: int64 (n,), rows of the training part.
        labels: class indices int64 (n,), indicator bool (n, c), or None where the data have none.
        neighbours: bool (n, n), symmetric, which items are neighbours of which, an item its own; None where no
            loss asks.
        second_codes: floating (n, l), codes of another augmentation of the same items; None where no loss asks.
        quantizer: the quantiser that `codes` come from, for losses that look at its thresholds.
        rows: of data with two views, int64 (n,), which row of `features` each code is of: an item has one code in each
            view, and all of them lie in one batch; None where there is one view.
        views: of data with two views, int64 (n,), the number of the view that each code is of; None as above.
    """

    codes: Tensor
    projections: Tensor
    features: Features
    positions: Tensor
    labels: Tensor | None = None
    neighbours: Tensor | None = None
    second_codes: Tensor | None = None
    quantizer: nn.Module | None = None
    rows: Tensor | None = None
    views: Tensor | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def distances(self) -> Tensor:
        """Relaxed distance of each two codes, (n, n), from 0 to l."""
        return (self.codes.shape[1] - self.codes @ self.codes.T) / 2

    @property
    def others(self) -> Tensor:
        """Bool (n, n), pairs of two different items."""
        return ~torch.eye(len(self), dtype=torch.bool, device=self.codes.device)

    @property
    def across(self) -> Tensor:
        """Bool (n, n), pairs of codes of different views, those of one item among them; of data with two views."""
        assert self.views is not None
        return self.views[:, None] != self.views
