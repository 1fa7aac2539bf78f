"""Signs of progress on a terminal, and none elsewhere."""

import io
import sys
import time

import pytest

from deephash.io import progress
from deephash.io.progress import Waiting, show_waiting, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Standard error as a terminal, and no patience; called in a test, at whose start pytest sets its own."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    return shown


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_clock_is_shown_while_something_goes_on_and_taken_away(monkeypatch):
    shown = terminal(monkeypatch)
    with show_waiting("Fitting"):
        wait_for(lambda: "Fitting" in shown.getvalue())
    assert Waiting._current is None
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 1000.0)
    with show_waiting("Short"):
        time.sleep(0.05)
    assert "Short" not in shown.getvalue()


def test_a_bar_takes_the_place_of_the_clock(monkeypatch):
    shown = terminal(monkeypatch)
    with show_waiting("Fitting"):
        wait_for(lambda: "Fitting" in shown.getvalue())
        assert list(track([1, 2, 3], "ITQ")) == [1, 2, 3]
        assert Waiting._current is None
    assert "ITQ" in shown.getvalue()


def test_steps_of_a_visible_bar_show_none(monkeypatch):
    shown = terminal(monkeypatch)
    for outer in track([1, 2, 3], "Images"):
        assert list(track([outer, outer], "GIST")) == [outer, outer]
    assert "Images" in shown.getvalue()
    first_bar = shown.getvalue().index("Images")
    assert "GIST" not in shown.getvalue()[first_bar:]
    shown.truncate(0)
    assert list(track([1, 2], "Ranking")) == [1, 2]
    assert "Ranking" in shown.getvalue()


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    with show_waiting("Fitting"):
        assert Waiting._current is None
    assert shown.getvalue() == ""


def test_an_error_ends_the_clock(monkeypatch):
    terminal(monkeypatch)
    with pytest.raises(KeyError), show_waiting("Fitting"):
        raise KeyError
    assert Waiting._current is None
