"""Counters, costs and the history of checkpoints that training on a stream accumulates."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from deephash.hashers import storage
from deephash.hashers.hasher import Hasher

STEPS = ("learn", "encode", "reencode", "evaluate")


@dataclass
class StreamProgress:
    """Counters, costs and history of training on a stream.

    Args:
        published_at: number of items that had arrived when a hash function was last published.
        fitted_at: number of items that had arrived at the last fit.
        reencoded_at: number of items that had arrived when codes were last re-encoded.
        reencoded_items: number of re-encoded codes.
        flipped_bits: number of bits that re-encoding changed.
        precisions: sum and number of the precisions of arriving items.
        seconds: duration by step.
        processor_seconds: processor time by step.
        history: scores and costs at each checkpoint.
    """

    published_at: int = 0
    fitted_at: int = 0
    reencoded_at: int = 0
    reencoded_items: int = 0
    flipped_bits: int = 0
    precisions: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    processor_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mean_precision(self) -> float:
        """Mean precision of arriving items; NaN before there is one."""
        total, number = self.precisions
        return total / number if number else math.nan

    def add_precisions(self, precisions: Tensor) -> None:
        """Add the precisions of arriving items, float64 (n,)."""
        self.precisions = [self.precisions[0] + float(precisions.sum()), self.precisions[1] + len(precisions)]

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time spent in this context to a step."""
        started, processor_started = time.perf_counter(), time.process_time()
        yield
        self.seconds[step] += time.perf_counter() - started
        self.processor_seconds[step] += time.process_time() - processor_started

    def describe(self) -> dict[str, Any]:
        """Return the content as numbers, lists and mappings, from which `restore` rebuilds it."""
        counters = [self.published_at, self.fitted_at, self.reencoded_at, self.reencoded_items, self.flipped_bits]
        return {
            "counters": counters,
            "precisions": self.precisions,
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "history": self.history,
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "StreamProgress":
        """Rebuild progress from the result of `describe`; other entries of the state are ignored."""
        named = {name: state[name] for name in ("precisions", "seconds", "processor_seconds", "history")}
        return cls(*state["counters"], **named)


def describe_hasher(hasher: Hasher) -> dict[str, Any]:
    """Return the parts and the weights of a hasher, from which `restore_hasher` rebuilds it."""
    return {"description": hasher.describe(), "weights": dict(hasher.state_dict())}


def restore_hasher(state: dict[str, Any]) -> Hasher:
    """Rebuild the hasher that `describe_hasher` described."""
    return storage.restore(Hasher.build, state["description"], state["weights"], Path("checkpoint"))
