"""Computation of the next items of an iterable while the current one is used."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

# A thread that waits for a place in the queue checks this often whether the consumer has stopped.
POLL_SECONDS = 0.1

_END = object()


@dataclass
class WaitingTime:
    """Seconds that a consumer has waited for items."""

    seconds: float = 0.0


def prefetch(iterable: Iterable[T], depth: int = 2, waiting: WaitingTime | None = None) -> Iterator[T]:
    """Iterate, while a thread computes the next items.

    Args:
        iterable: any iterable; it is only advanced in the thread. Its errors are raised here.
        depth: maximum number of items that are computed and not used yet.
        waiting: the time that this iterator waits for items is added to it.

    Yields:
        The items of `iterable`, in order.
    """
    items: queue.Queue[Any] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                items.put(item, timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in iterable:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # It is raised in the consumer's thread.
            put((_END, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            started = time.perf_counter()
            item, error = items.get()
            if waiting is not None:
                waiting.seconds += time.perf_counter() - started
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
