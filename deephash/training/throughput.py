"""A callback that measures images per second, and the share of the time in which the device waited for images."""

import logging
import time
from typing import Any

import lightning

from deephash.data.prefetch_loader import PrefetchLoader
from deephash.io.prefetch import WaitingTime

log = logging.getLogger(__name__)


class Throughput(lightning.Callback):
    """Callback that measures training steps on images in files, without validation, and logs them by epoch.

    Other data are not measured: they are in memory.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._waiting: WaitingTime | None = None
        self._last = self._waited_before = 0.0

    @property
    def images_per_second(self) -> float | None:
        """Images per second over all steps; None if no images in files were used."""
        return self.images / self.seconds if self.seconds else None

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock of an epoch."""
        loader = trainer.train_dataloader
        self._waiting = loader.waiting if isinstance(loader, PrefetchLoader) else None
        if self._waiting is not None:
            self._last, self._waited_before = time.perf_counter(), self._waiting.seconds

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count the images of a batch and its seconds."""
        if self._waiting is None:
            return
        now, waited = time.perf_counter(), self._waiting.seconds
        self.seconds += now - self._last
        self.waited += waited - self._waited_before
        self.images += len(batch["positions"]) * trainer.world_size
        self._last, self._waited_before = now, waited

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the speed of all steps so far."""
        if self._waiting is None or not self.seconds:
            return
        rate, share = self.images / self.seconds, self.waited / self.seconds
        pl_module.log_dict({"images_per_second": rate, "waiting_for_images": share}, rank_zero_only=True)
        log.info(
            "epoch %d: %.0f images a second, %.0f %% of the time waiting for images",
            trainer.current_epoch + 1,
            rate,
            100 * share,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the totals that a resumed training needs."""
        return {"images": self.images, "seconds": self.seconds, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the totals of an interrupted training."""
        self.images, self.seconds, self.waited = (state_dict[name] for name in ("images", "seconds", "waited"))
