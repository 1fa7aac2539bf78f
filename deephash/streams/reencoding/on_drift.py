"""All stale codes are re-encoded where a detector finds that the stream has changed."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from deephash.functional.drift_detector import build_detector
from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class OnDrift(Reencoding):
    """All stale codes when the precision of what arriving items find changes, and once more when it has settled.

    The projection goes on learning after a change, so the codes made at the alarm are stale soon: they are re-encoded
    once more `settle` items later. A detector's own state cannot be stored without a pickle; so it forgets after every
    `memory` signals, and what it has been told since is kept and told again to a resumed one.

    Args:
        detector: of river.drift: "ADWIN", "KSWIN" or "PageHinkley".
        settings: the detector's arguments, as {delta: 0.01}.
        memory: signals, one an item, after which the detector starts again.
        settle: items from an alarm to the second time.

    Raises:
        InvalidInputError: river is missing, an unknown detector, memory or settle below 1.
    """

    def __init__(
        self,
        detector: str = "ADWIN",
        settings: dict[str, Any] | None = None,
        memory: int = 10_000,
        settle: int = 1000,
    ) -> None:
        check_count(memory, "reencoding.memory")
        check_count(settle, "reencoding.settle")
        self.detector = detector
        self.settings = dict(settings or {})
        self.memory = memory
        self.settle = settle
        self.alarms: list[int] = []
        self._signals: list[float] = []
        self._due_at: int | None = None
        self._fresh: Callable[[], Any] = lambda: build_detector(self.detector, self.settings)
        self._running = self._fresh()

    def due(self, staleness: Staleness) -> Tensor:
        """All that are stale at an alarm, or when it has settled; else none."""
        alarm = self._tell(staleness.precisions.tolist())
        if alarm:
            self.alarms.append(staleness.seen)
            self._due_at = staleness.seen + self.settle
        settled = self._due_at is not None and staleness.seen >= self._due_at
        if settled:
            self._due_at = None
        return staleness.stale() if alarm or settled else torch.empty(0, dtype=torch.int64)

    def state(self) -> dict[str, Any]:
        """The signals since the detector began, and what is due."""
        return {"signals": list(self._signals), "due_at": self._due_at, "alarms": list(self.alarms)}

    def restore(self, state: dict[str, Any]) -> None:
        """Tell a new detector what the old one was told."""
        self._due_at, self.alarms = state["due_at"], list(state["alarms"])
        self._signals, self._running = list(state["signals"]), self._fresh()
        for signal in self._signals:
            self._running.update(signal)

    def _tell(self, signals: list[float]) -> bool:
        """Whether any of these signals, with those before it, is an alarm."""
        alarm = False
        for signal in signals:
            if len(self._signals) >= self.memory:
                self._signals, self._running = [], self._fresh()
            self._signals.append(signal)
            self._running.update(signal)
            alarm |= bool(self._running.drift_detected)
        return alarm
