"""The CPU engine: equal to the naive rankings, safe in threads, cached on disk."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ranking import assert_equals_naive, cases, make_case, naive_rank

from deephash.ranking.numba_engine import NumbaEngine
from deephash.validation import InvalidInputError

# 1, 2, 4 and 16 words: each width compiles kernels of its own, so a few stand for all.
LENGTHS = st.one_of(st.integers(1, 64), st.integers(65, 128), st.integers(129, 256), st.integers(513, 1024))

SECOND_PROCESS = """
import sys, numba, torch
from deephash.codes import pack
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_kernels import search_kernel
if "unwritable" in sys.argv:
    from numba.core import caching
    caching.CacheImpl._locator_classes = []
codes = pack(torch.eye(20, dtype=torch.bool))
distances, ids = NumbaEngine().search(codes, codes, Hamming(20), 2)
assert distances.tolist() == [[0, 2]] * 20 and ids[:, 0].tolist() == list(range(20)), (distances, ids)
kernel = search_kernel(1, 8)
print(sum(kernel.stats.cache_hits.values()) if "unwritable" not in sys.argv else "ran")
"""


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases(LENGTHS))
def test_equals_naive(case):
    assert_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize(
    ("kind", "bits", "per_dimension"),
    [
        ("hamming", 1100, 1),
        ("manhattan", 256, 8),
        ("manhattan", 64, 4),
        ("variable manhattan", 256, 8),
        ("asymmetric", 130, 1),
    ],
)
def test_any_layout_equals_naive(kind, bits, per_dimension):
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(NumbaEngine(2), make_case(1, 11, 60, kind, relevance, bits, per_dimension))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_queries(threads):
    """More queries than one share of a thread: each is counted once, whatever the number of threads."""
    case = make_case(0, 151, 90, "hamming", "label")
    assert_equals_naive(NumbaEngine(threads), case)


def test_concurrent_calls():
    case = make_case(0, 200, 400, "hamming", "label")
    codes = (case.query_codes, case.database_codes, case.distance, case.relevance)
    engine, (total, relevant) = NumbaEngine(2), naive_rank(case)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(engine.rank, *codes) for _ in range(24)]:
            np.testing.assert_array_equal(done.result().total.numpy(), total)
            np.testing.assert_array_equal(done.result().relevant.numpy(), relevant)


def test_codes_that_are_views():
    """Transposed, strided and unaligned codes are ranked as their values are."""
    case = make_case(3, 9, 40, "hamming", "label")
    expected = NumbaEngine().rank(case.query_codes, case.database_codes, case.distance, case.relevance)
    strided = torch.zeros(80, 16, dtype=torch.uint8)[::2, 3:11]
    strided.copy_(case.database_codes)
    unaligned = torch.zeros(9 * 8 + 1, dtype=torch.uint8)[1:].view(9, 8)
    unaligned.copy_(case.query_codes)
    for queries, database in ((unaligned, strided), (case.query_codes.T.contiguous().T, case.database_codes)):
        counts = NumbaEngine().rank(queries, database, case.distance, case.relevance)
        assert torch.equal(counts.total, expected.total)
        assert torch.equal(counts.relevant, expected.relevant)


def test_asymmetric_in_blocks_of_queries(monkeypatch):
    """Cost tables are built a few queries at a time; the blocks' own largest distances do not matter."""
    monkeypatch.setattr("deephash.ranking.numba_layout.TABLE_BYTES", 3 * 8 * 1024)
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(NumbaEngine(), make_case(5, 10, 50, "asymmetric", relevance))


def run_second_process(tmp_path, *arguments):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_second_process_finds_the_kernels(tmp_path):
    assert run_second_process(tmp_path) == "0"
    assert run_second_process(tmp_path) == "1"


def test_runs_where_nothing_can_be_cached(tmp_path):
    assert run_second_process(tmp_path, "unwritable") == "ran"


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_refuses_threads(threads):
    with pytest.raises(InvalidInputError, match=r"threads=.*; expected a whole number of at least 1"):
        NumbaEngine(threads)


def test_refuses_another_device():
    codes = torch.zeros(1, 8, dtype=torch.uint8, device="meta")
    with pytest.raises(InvalidInputError, match="NumbaEngine ranks codes on the CPU, but these are on meta"):
        NumbaEngine._check_cpu(codes)
