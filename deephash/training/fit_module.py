"""The fit of a hasher as a Lightning module: the projection, then the quantiser, by the algorithms of their papers."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.data.blocks import move_block
from deephash.data.file_rows import FileRows, read_features
from deephash.data.items import Features
from deephash.data.views import Views
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import LearntCodes, check_learnt, extract_learnt_codes
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.row_shares import row_shares
from deephash.functional.shares import get_share
from deephash.hashers.hasher_views import AnyHasher

log = logging.getLogger(__name__)

# Processes share fits of at least this number of rows; a fit of fewer rows takes seconds. Each share consists of whole
# blocks of a fit by one process, so float32 products of blocks are equal. Only the order of the float64 sums differs.
SHARED_ROWS = 100_000


@dataclass
class FittedHasher:
    """A fitted hasher.

    Args:
        hasher: fitted hasher of one view or of two.
        learnt: codes that the fit learnt for its training items; None if the method learns none.
        seconds: durations by step.
        images_per_second: images that a joint training used in a second, if it decoded them from files.
    """

    hasher: AnyHasher
    learnt: LearntCodes | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    images_per_second: float | None = None


class FitModule(lightning.LightningModule):
    """Fit of a hasher in one training step over the whole training part.

    With several processes, the first one fits, and the others copy its weights. From 100,000 rows on, methods that need
    only sums over the rows are fitted by all processes, each on its share.

    Args:
        hasher: unfitted hasher.
        truth: ground truth, whose rule defines neighbours for methods fitted from pairs.
        supervision: another rule for these neighbours; None for that of the truth.
        seed: seed of the method's random draws.
        needs_learnt: whether the fit must learn codes of the training items.
    """

    def __init__(
        self,
        hasher: AnyHasher,
        truth: FittedTruth,
        supervision: Affinity | None = None,
        seed: int = 0,
        needs_learnt: bool = False,
    ) -> None:
        super().__init__()
        self.hasher = hasher
        self.truth = truth
        self.supervision = supervision
        self.seed = seed
        self.needs_learnt = needs_learnt
        self.automatic_optimization = False
        self._learnt: LearntCodes | None = None
        self._seconds = 0.0

    @property
    def fitted(self) -> FittedHasher:
        """The hasher after the training step."""
        return FittedHasher(self.hasher, self._learnt, {"fit": self._seconds})

    def configure_optimizers(self) -> None:
        """Configure no optimiser, because nothing is learnt by gradient."""

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """Move the training part to the device; images in files stay there."""
        return move_block(batch, device)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Fit on the whole training part."""
        started = time.perf_counter()
        if self._fits_on_shares(batch):
            with row_shares():
                rows = get_share(len(batch["ids"]), self.global_rank, self.trainer.world_size, BLOCK_ROWS)
                log.info(
                    "rows %d to %d of %d are this process's share of the fit", rows.start, rows.stop, len(batch["ids"])
                )
                self.fit_hasher(select_batch_rows(batch, rows))
        elif self.trainer.is_global_zero:
            self.fit_hasher(batch)
        self._share_weights()
        self._seconds = time.perf_counter() - started

    def fit_hasher(self, batch: dict[str, Any]) -> None:
        """Fit on a block that holds the whole training part, or this process's share of it."""
        labels = batch.get("labels")
        features = batch["features"] if isinstance(batch["features"], FileRows) else batch["features"].cpu()
        items = features, None if labels is None else labels.cpu()
        affinity = training_affinity(self.truth.definition, self.supervision, *items, batch["ids"])
        generator = torch.Generator().manual_seed(self.seed)
        self.hasher.fit(batch["features"], labels=labels, affinity=affinity, generator=generator)
        self._learnt = extract_learnt_codes(self.hasher, batch["features"], batch["ids"])
        if self.needs_learnt:
            check_learnt(self._learnt, self.hasher)

    def _fits_on_shares(self, batch: dict[str, Any]) -> bool:
        """Return whether all processes fit: rows are many and have every view, and the method needs only sums."""
        features = batch["features"]
        complete = not isinstance(features, Views) or bool(features.complete.all())
        enough = len(features) >= max(SHARED_ROWS, BLOCK_ROWS * self.trainer.world_size)
        return self.trainer.world_size > 1 and enough and complete and self.hasher.fits_on_shares

    def _share_weights(self) -> None:
        """Give all processes the hasher of the first one."""
        if self.trainer.world_size == 1:
            return
        # A fit may lower sizes to those that the data allow, so the other processes rebuild the parts before they copy.
        shared: list[Any] = [self.hasher.describe(), self._learnt]
        torch.distributed.broadcast_object_list(shared, src=0)
        if not self.trainer.is_global_zero:
            self.hasher, self._learnt = type(self.hasher).build(shared[0]).to(self.device), shared[1]
        for weight in self.hasher.state_dict().values():
            torch.distributed.broadcast(weight, src=0)


def select_batch_rows(batch: dict[str, Any], rows: range) -> dict[str, Any]:
    """Return consecutive rows of a block."""
    return {name: values[rows.start : rows.stop] for name, values in batch.items()}


def training_affinity(
    truth: Affinity, supervision: Affinity | None, features: Features, labels: Tensor | None, ids: Tensor
) -> TrainingAffinity:
    """Return the neighbours among training items, from which methods and losses learn.

    Args:
        truth: fitted ground truth, which defines neighbours if there is no supervision.
        supervision: another definition, fitted here on the training items; or None.
        features: floating (n, d) or `FileRows`, the whole training part.
        labels: int64 (n,), bool (n, c) or None.
        ids: int64 (n,), rows of the items in the data set; lists of pairs refer to items by these rows.
    """
    if not (truth if supervision is None else supervision).needs_labels:
        features = read_features(features)  # Distances need all features.
    definition = truth if supervision is None else supervision.fit(features, labels)
    return definition.supervise(features, labels, ids)
