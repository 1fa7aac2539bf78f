"""Items are computed in a thread, in order and not too far ahead; errors and early ends reach both sides."""

import threading
import time

import pytest

from deephash.io.prefetch import WaitingTime, prefetch


def test_items_in_order():
    assert list(prefetch(range(100))) == list(range(100))
    assert list(prefetch([])) == []


def test_items_are_computed_ahead_but_only_a_few():
    made = []

    def items():
        for number in range(10):
            made.append((number, threading.current_thread()))
            yield number

    iterator = prefetch(items(), depth=2)
    assert next(iterator) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One is used, two wait in the queue, and one waits for a place.
    assert [number for number, _ in made] == [0, 1, 2, 3]
    assert all(thread is not threading.main_thread() for _, thread in made)
    assert list(iterator) == list(range(1, 10))


def test_an_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("no disk")

    iterator = prefetch(items())
    assert next(iterator) == 1
    with pytest.raises(OSError, match="no disk"):
        next(iterator)


def test_an_early_end_stops_the_thread():
    before = threading.active_count()
    iterator = prefetch(iter(int, 1), depth=1)  # endless
    assert next(iterator) == 0
    assert threading.active_count() == before + 1
    iterator.close()
    assert threading.active_count() == before


def test_waiting_is_measured():
    waiting = WaitingTime()

    def slow():
        for number in range(3):
            time.sleep(0.05)
            yield number

    assert list(prefetch(slow(), waiting=waiting)) == [0, 1, 2]
    assert waiting.seconds >= 0.1
