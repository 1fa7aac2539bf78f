"""The classical two steps as a Lightning module: fit the projection, then the quantiser, once, in closed form."""

import logging
import time
from typing import Any

import torch
from torch import Tensor

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity
from deephash.data.views import Views
from deephash.evaluation.hashing_module import HashingModule
from deephash.evaluation.learnt_codes import LEARNT, check_learnt, learnt_codes
from deephash.functional.principal_components import BLOCK_ROWS
from deephash.functional.row_shares import row_shares
from deephash.functional.shares import get_share

log = logging.getLogger(__name__)

# Rows from which the processes share a fit; fewer take seconds. Shares begin where blocks of one process do, so that
# products of float32 are the same, and what differs is the order in which float64 sums of blocks are added up.
SHARED_ROWS = 100_000


class FitModule(HashingModule):
    """Fits a hasher by its papers' algorithms in one training step over the whole training part.

    With several processes the first one fits and the others take its weights, so that all hold the same. Of 100,000
    rows and more, methods that need sums over the rows alone are fitted by all, each on its share.

    Args:
        hasher: what is fitted.
        truth: which items are relevant to which query.
        ranking: the engine that ranks codes.
        at: depths k for metrics at k.
        radii: Hamming radii for metrics within a radius.
        user_metrics: what users of the ranked lists get.
        supervision: which training items are neighbours, for methods fitted from pairs; None for the truth's own rule.
        seed: seed of the method's random draws.
    """

    def __init__(self, *arguments: Any, supervision: Affinity | None = None, seed: int = 0, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.supervision = supervision
        self.seed = seed
        self.automatic_optimization = False

    def configure_optimizers(self) -> None:
        """No optimiser: nothing is learnt by gradient."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Fit on the whole training part."""
        started = time.perf_counter()
        if self._fits_on_shares(batch):
            with row_shares():
                rows = get_share(len(batch["ids"]), self.global_rank, self.trainer.world_size, BLOCK_ROWS)
                log.info(
                    "rows %d to %d of %d are this process's share of the fit", rows.start, rows.stop, len(batch["ids"])
                )
                self.fit_hasher(rows_of(batch, rows))
        elif self.trainer.is_global_zero:
            self.fit_truth(self.data)
            self.fit_hasher(batch)
        self._share_weights()
        self.seconds["fit"] = time.perf_counter() - started

    def fit_hasher(self, batch: dict[str, Any]) -> None:
        """Fit on a block of the whole training part; the truth is fitted already."""
        labels = batch.get("labels")
        items = batch["features"].cpu(), None if labels is None else labels.cpu()
        affinity = training_affinity(self.truth, self.supervision, *items, batch["ids"])
        generator = torch.Generator().manual_seed(self.seed)
        self.hasher.fit(batch["features"], labels=labels, affinity=affinity, generator=generator)
        self.learnt = learnt_codes(self.hasher, batch["features"], batch["ids"])
        if self.database_codes == LEARNT:
            check_learnt(self.learnt, self.hasher)

    def _fits_on_shares(self, batch: dict[str, Any]) -> bool:
        """Whether all processes fit: many rows, none without a view, and a method that needs sums alone."""
        features = batch["features"]
        whole = not isinstance(features, Views) or bool(features.complete.all())
        enough = len(features) >= max(SHARED_ROWS, BLOCK_ROWS * self.trainer.world_size)
        return self.trainer.world_size > 1 and enough and whole and self.hasher.fits_on_shares

    def _share_weights(self) -> None:
        if self.trainer.world_size == 1:
            return
        # A fit may have lowered sizes to what the data allow, so the others take the first one's parts, then weights.
        shared: list[Any] = [self.hasher.describe(), self.learnt]
        torch.distributed.broadcast_object_list(shared, src=0)
        if not self.trainer.is_global_zero:
            self.hasher, self.learnt = type(self.hasher).build(shared[0]).to(self.device), shared[1]
        for weight in self.hasher.state_dict().values():
            torch.distributed.broadcast(weight, src=0)


def rows_of(batch: dict[str, Any], rows: range) -> dict[str, Any]:
    """Consecutive rows of a block."""
    return {name: values[rows.start : rows.stop] for name, values in batch.items()}


def training_affinity(
    truth: Affinity, supervision: Affinity | None, features: Tensor, labels: Tensor | None, ids: Tensor
) -> TrainingAffinity:
    """Which training items are neighbours: what methods and losses learn from.

    Args:
        truth: fitted; its rule serves where there is no supervision.
        supervision: a rule of its own, fitted here on the training items; or None.
        features: floating (n, d), the whole training part.
        labels: int64 (n,), bool (n, c) or None.
        ids: int64 (n,), the items' rows in the data set, by which listed pairs name them.
    """
    definition = truth if supervision is None else supervision.fit(features, labels)
    return definition.supervise(features, labels, ids)
