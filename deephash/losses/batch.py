"""A batch of training items, the input of losses."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deephash.data.items import Features
from deephash.data.views import Views


@dataclass(frozen=True)
class TrainingBatch:
    """Relaxed codes of n training items and their supervision.

    All tensors are on the same device. With several processes, each sees the joined codes of the whole batch, so that a
    loss over pairs does not depend on the number of processes.

    Args:
        codes: relaxed codes, floating (n, l) in [-1, 1], in unary: hard codes u, v are ranked by the distance
            (l - u·v) / 2. For quantisers ranked by Hamming distance, the entries are the bits.
        projections: floating (n, k), before the quantiser, with gradients.
        features: floating (n, d), the input of the hasher, after augmentation; with two views, `Views` of the items.
        positions: int64 (n,), rows of the training part.
        labels: class indices int64 (n,), indicator bool (n, c), or None if the data have none.
        neighbours: bool (n, n), symmetric, True for neighbours and on the diagonal; None if no loss needs it.
        second_codes: floating (n, l), codes of another augmentation of the same items, the second view of
            `Augmentation`, or of the passage of each query; None if no loss needs them.
        quantizer: the quantiser that produced `codes`, for losses that use its thresholds, of which the first k belong
            to `projections`.
        rows: with two views, the row of `features` of each code, int64 (n,); an item has one code per view, and all of
            its codes are in one batch. None with one view.
        views: with two views, the number of the view of each code, int64 (n,). None with one view.
        relevant: of pairs of a query and a passage, bool (n, n), True where passage j is known to be relevant to query
            i, and on the diagonal; None for other items.
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
    relevant: Tensor | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def distances(self) -> Tensor:
        """Relaxed distance between any two codes, (n, n), from 0 to l."""
        return (self.codes.shape[1] - self.codes @ self.codes.T) / 2

    @property
    def others(self) -> Tensor:
        """Bool (n, n), pairs of two different items."""
        return ~torch.eye(len(self), dtype=torch.bool, device=self.codes.device)

    def first_bits(self, bits: int) -> "TrainingBatch":
        """Return the batch with only the first bits of each code, for a quantiser of one bit per projection.

        Args:
            bits: number of bits and of projections to keep.
        """
        if bits == self.codes.shape[1]:
            return self
        second = None if self.second_codes is None else self.second_codes[:, :bits]
        return replace(self, codes=self.codes[:, :bits], projections=self.projections[:, :bits], second_codes=second)

    def complete_codes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the codes of the items that have both views, with two views only.

        Returns:
            Codes of the first view (m, l), codes of the same items in the second view (m, l), and the positions of the
            items, int64 (m,), in the order of `features`.
        """
        assert isinstance(self.features, Views)
        assert self.rows is not None
        complete = self.features.complete[self.rows]
        first, second = (
            chosen[self.rows[chosen].argsort()]
            for chosen in (((self.views == number) & complete).nonzero()[:, 0] for number in range(2))
        )
        return self.codes[first], self.codes[second], self.positions[first]

    @property
    def across(self) -> Tensor:
        """Bool (n, n), pairs of codes of different views, including those of the same item; with two views only."""
        assert self.views is not None
        return self.views[:, None] != self.views
