"""The automatic engine: plain torch for a little work, compiled kernels for more, and the same results."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from naive_ranking import KINDS, assert_equals_naive, assert_search_among_equals_naive, make_case

from deephash.ranking import auto_engine
from deephash.ranking.auto_engine import AutoEngine, SmallRankings, estimate_seconds

FORKED = """
import os, signal, sys
import torch
from deephash.codes import pack
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
torch.set_num_threads(2)
(torch.ones(1000, 100) @ torch.ones(100, 1000)).exp()  # Starts threads that a forked process lacks.
codes = pack(torch.rand(500, 64) < 0.5)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if AutoEngine().search(codes, codes, Hamming(64), 1)[0].sum() == 0 else 1)
print(os.waitpid(child, 0)[1], "numba" in sys.modules)
"""


@pytest.fixture
def account(monkeypatch):
    """An account of a second, as at the start of a process."""
    found = SmallRankings(1.0)
    monkeypatch.setattr(auto_engine, "small_rankings", found)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relevance", ["label", "labels", "neighbours"])
def test_small_rankings_take_plain_torch(monkeypatch, account, kind, relevance):
    monkeypatch.setattr(auto_engine, "select_engine", lambda device: pytest.fail("loads kernels"))
    threads = torch.get_num_threads()
    case = make_case(1, 11, 60, kind, relevance)
    assert_equals_naive(AutoEngine(), case)
    assert_search_among_equals_naive(AutoEngine(), case)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_loaded_once_the_account_is_spent(monkeypatch, account, kind):
    """Each task and distance has its own seconds; thereafter, a small ranking takes the kernels too."""
    loaded = []
    select = auto_engine.select_engine
    monkeypatch.setattr(auto_engine, "select_engine", lambda device: loaded.append(device) or select(device))
    case = make_case(1, 11, 60, kind, "label")
    codes = (case.query_codes, case.database_codes)
    AutoEngine().rank(*codes, case.distance, case.relevance)
    assert account.accept(("rank", type(case.distance).__name__), 2.0) is False
    AutoEngine().search(*codes, case.distance, 3)
    assert not loaded
    AutoEngine().rank(*codes, case.distance, case.relevance)
    assert len(loaded) == 1


def test_time_grows_with_the_work():
    small = estimate_seconds(10, 1000, 64, sorts=False)
    assert small < 0.001
    assert estimate_seconds(1000, 1_000_000, 64, sorts=False) > 5
    for more in ((20, 1000, 64, False), (10, 2000, 64, False), (10, 1000, 640, False), (10, 1000, 64, True)):
        assert estimate_seconds(*more) > small


def test_threads_that_rank_together_leave_the_number_of_threads(account):
    case = make_case(1, 11, 60, "hamming", "label")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(
                    lambda _: AutoEngine().search(case.query_codes, case.database_codes, case.distance, 3), range(64)
                )
            )
        assert torch.get_num_threads() == 2
        assert ThreadPoolExecutor(1).submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][1], ids) for _, ids in found)


def test_a_forked_process_ranks():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["0", "False"], done.stderr
