"""Re-encoding of all stale codes when a detector finds drift."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from deephash.functional.drift_detector import build_detector
from deephash.streams.reencoding.base import Reencoding, Staleness
from deephash.validation import check_count


@final
class OnDrift(Reencoding):
    """Policy that re-encodes all stale codes when drift is detected, and again when the projection has settled.

    Drift is a change in the precision of the neighbours of arriving items. The projection continues to learn after a
    change, so codes re-encoded at the alarm are soon stale. They are re-encoded again `settle` items later. The state
    of a detector could only be stored as a pickle. Instead, the detector restarts after every `memory` signals, and the
    signals since then are stored and replayed on resumption.

    Args:
        detector: class of river.drift: "ADWIN", "KSWIN" or "PageHinkley".
        settings: arguments of the detector, such as {delta: 0.01}.
        memory: number of signals, one per item, after which the detector restarts.
        settle: number of items from an alarm to the second re-encoding.

    Raises:
        InvalidInputError: river is missing, the detector is unknown, or memory or settle is below 1.
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
        self._new_detector: Callable[[], Any] = lambda: build_detector(self.detector, self.settings)
        self._running = self._new_detector()

    def due(self, staleness: Staleness) -> Tensor:
        """Return all stale codes at an alarm, or `settle` items later."""
        alarm = self._update(staleness.precisions.tolist())
        if alarm:
            self.alarms.append(staleness.seen)
            self._due_at = staleness.seen + self.settle
        settled = self._due_at is not None and staleness.seen >= self._due_at
        if settled:
            self._due_at = None
        return staleness.stale() if alarm or settled else torch.empty(0, dtype=torch.int64)

    def state(self) -> dict[str, Any]:
        """Return the signals since the detector started, the alarms, and the next re-encoding."""
        return {"signals": list(self._signals), "due_at": self._due_at, "alarms": list(self.alarms)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state by replaying the signals to a new detector."""
        self._due_at, self.alarms = state["due_at"], list(state["alarms"])
        self._signals, self._running = list(state["signals"]), self._new_detector()
        for signal in self._signals:
            self._running.update(signal)

    def _update(self, signals: list[float]) -> bool:
        """Pass signals to the detector, and return whether one of them raises an alarm."""
        alarm = False
        for signal in signals:
            if len(self._signals) >= self.memory:
                self._signals, self._running = [], self._new_detector()
            self._signals.append(signal)
            self._running.update(signal)
            alarm |= bool(self._running.drift_detected)
        return alarm
