"""Images a second of training steps, and the share of the time in which the device waited for images."""

import time
from dataclasses import dataclass, field
from typing import Any

from deephash.io.prefetch import WaitingTime


@dataclass
class Throughput:
    """Clock of training steps, without validation.

    Args:
        images: number of images of all steps.
        seconds: seconds of all steps.
        waited: seconds of those in which the next batch was not decoded yet.
        waiting: clock of the loader.
    """

    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    waiting: WaitingTime = field(default_factory=WaitingTime)
    _last: float = field(default=0.0, init=False)
    _waited: float = field(default=0.0, init=False)

    def start_epoch(self) -> None:
        """Start the clock of an epoch."""
        self._last = time.perf_counter()
        self._waited = self.waiting.seconds

    def add_batch(self, images: int) -> None:
        """Count a batch that has been trained on."""
        now = time.perf_counter()
        self.seconds += now - self._last
        self.images += images
        self.waited += self.waiting.seconds - self._waited
        self._last, self._waited = now, self.waiting.seconds

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time in which the device waited for images."""
        return self.waited / self.seconds if self.seconds else 0.0

    def state(self) -> dict[str, Any]:
        """Return the totals, for a checkpoint."""
        return {"images": self.images, "seconds": self.seconds, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the totals of a checkpoint."""
        self.images, self.seconds, self.waited = state["images"], state["seconds"], state["waited"]
