"""The CPU engine: equal to the naive rankings in every form of its kernels, safe in threads, cached on disk."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ranking import (
    Case,
    assert_equals_naive,
    assert_search_among_equals_naive,
    cases,
    make_case,
    naive_distances,
    naive_rank,
    naive_search,
)

import deephash
from deephash.functional.compiled import compiled
from deephash.ranking import numba_engine, numba_layout
from deephash.ranking.distance import Asymmetric, Hamming, VariableManhattan
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_kernels import count
from deephash.ranking.numba_vectors import SHUFFLES
from deephash.validation import InvalidInputError

# Distances of one and of two bytes; sums of 31 bytes of a code fit in one byte.
LENGTHS = st.one_of(st.integers(1, 64), st.integers(65, 243), st.integers(244, 260), st.integers(490, 1024))
# Popcounts of bytes and of words run on any processor; LLVM translates them into other instructions.
FORMS = ["words", "popcounts", *(["costs"] if SHUFFLES else [])]
NEEDS_AVX2 = pytest.mark.skipif(not SHUFFLES, reason="the processor lacks AVX2")
FEW_FORMS = ["words", "rows"]
# Number of queries from which codes are laid out in tiles.
MANY = numba_layout.FEW + 1

SECOND_PROCESS = """
import sys, numba, torch
from deephash.codes import pack
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_search import search_nearest
if "unwritable" in sys.argv:
    from numba.core import caching
    caching.CacheImpl._locator_classes = []
codes = pack(torch.eye(20, dtype=torch.bool))
distances, ids = NumbaEngine().search(codes, codes, Hamming(20), 2)
assert distances.tolist() == [[0, 2]] * 20 and ids[:, 0].tolist() == list(range(20)), (distances, ids)
kernel = search_nearest
print(sum(kernel.stats.cache_hits.values()) if "unwritable" not in sys.argv else "ran")
"""


BASELINE_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from naive_ranking import KINDS, assert_equals_naive, make_case
from deephash.ranking import numba_layout, numba_vectors
from deephash.ranking.numba_engine import NumbaEngine
assert [numba_layout.FORM, numba_vectors.PERMUTES] == [sys.argv[2], False], numba_vectors.target_features()
for kind in KINDS:
    for relevance in ("label", "labels", "neighbours"):
        assert_equals_naive(NumbaEngine(), make_case(1, 11, 700, kind, relevance))
print("equal")
"""


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(cases(LENGTHS))
def test_equals_naive(form, case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_layout, "FORM", form)
        assert_equals_naive(NumbaEngine(), case)
        assert_search_among_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("items", [63, 64, 65, 1024, 1025, 2 * 1024 + 511])
def test_items_around_the_sizes_of_tiles_and_chunks(monkeypatch, form, items):
    monkeypatch.setattr(numba_layout, "FORM", form)
    for relevance, bits in (("label", 64), ("neighbours", 300)):
        assert_equals_naive(NumbaEngine(), make_case(2, MANY, items, "hamming", relevance, bits))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [247, 248, 249, 255, 256, 257])
def test_lengths_around_the_largest_distance_of_a_byte(monkeypatch, form, bits):
    """Complements of the queries are among the items, so that the largest distances occur."""
    monkeypatch.setattr(numba_layout, "FORM", form)
    case = make_case(4, MANY, 90, "hamming", "label", bits)
    case.database_bits[:MANY] = ~case.query_bits
    assert_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bits", [16, 64, 200, 300])
@pytest.mark.parametrize("spread", [0.0, 0.03, 0.5])
@pytest.mark.parametrize("relevance", ["label", "labels"])
def test_many_items_are_counted(monkeypatch, form, bits, spread, relevance):
    """More items than are counted at a time, at one distance, in a narrow band or in a wide one."""
    monkeypatch.setattr(numba_layout, "FORM", form)
    case = make_case(7, MANY, 40_000, "hamming", relevance, bits, spread=spread)
    counts = NumbaEngine().rank(case.query_codes, case.database_codes, case.distance, case.relevance)
    for i, row in enumerate(naive_distances(Case(case.query_bits, case.database_bits, case.distance, None, None))):
        np.testing.assert_array_equal(counts.total[i], np.bincount(row, minlength=bits + 1))
        np.testing.assert_array_equal(counts.relevant[i], np.bincount(row[case.relevant[i]], minlength=bits + 1))


@pytest.mark.parametrize("form", FEW_FORMS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(LENGTHS))
def test_few_queries_equal_naive(form, case):
    few = Case(case.query_bits[:6], case.database_bits, case.distance, None, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_layout, "FEW_FORM", form)
        if isinstance(case.distance, Hamming) and len(few.query_bits) and len(few.database_bits):
            found = NumbaEngine().search(few.query_codes, few.database_codes, few.distance, len(few.database_bits))
            for ours, expected in zip(found, naive_search(few, len(few.database_bits)), strict=True):
                np.testing.assert_array_equal(ours, expected)
            assert_search_among_equals_naive(NumbaEngine(), few)
        if len(case.query_bits) <= 6:
            assert_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize("form", FEW_FORMS)
@pytest.mark.parametrize("bits", [8, 24, 64, 96, 128, 200, 256, 257, 384, 512, 520, 768, 1024, 1500])
def test_few_queries_and_codes_of_any_width(monkeypatch, form, bits):
    """Codes that share a vector, fill one or several, and the last ones, behind which no memory may be read."""
    monkeypatch.setattr(numba_layout, "FEW_FORM", form)
    for queries, items in ((1, 1), (1, 7), (2, 8), (6, 65), (3, 1031), (1, 2 * 1024 + 70)):
        assert_equals_naive(NumbaEngine(), make_case(3, queries, items, "hamming", "label", bits))


@pytest.mark.parametrize("form", FEW_FORMS)
@pytest.mark.parametrize("k", [1, 40, 1100])
def test_few_queries_of_an_index_and_in_parts(monkeypatch, form, k):
    monkeypatch.setattr(numba_layout, "FEW_FORM", form)
    monkeypatch.setattr(numba_engine, "PART", 500)
    case = make_case(8, 5, 1203, "hamming", "label", 64, spread=0.1)
    index = deephash.index(case.database_codes, "flat", engine=NumbaEngine())
    for queries in (case.query_codes, torch.cat([case.query_codes] * 2, 1)[:, :8]):  # The second has strides.
        for ours, expected in zip(index.search(queries, k), naive_search(case, k), strict=True):
            np.testing.assert_array_equal(ours, expected)
    assert index.few is not None


@compiled
def count_row(distances, size, narrow, counts):
    count(distances[:size], narrow, counts)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 5000),
    st.integers(0, 140),
    st.sampled_from([np.uint8, np.uint16]),
    st.booleans(),
)
def test_counts_of_any_size_and_band(seed, size, span, dtype, is_largest):
    """Bands of up to 64 and 128 distances are counted in vectors, and a count adds to what is there."""
    rng = np.random.default_rng(seed)
    bins = 256 if dtype == np.uint8 else 1025
    least = bins - 1 - span if is_largest else int(rng.integers(0, bins - span))
    # Distances beyond the row are read, and must not count.
    distances = rng.integers(least, least + span + 1, size + 63).astype(dtype)
    counts = rng.integers(0, 9, bins + 7)
    expected = counts[:bins] + np.bincount(distances[:size], minlength=bins)
    count_row(distances, size, np.empty(size + 64, np.uint8), counts)
    np.testing.assert_array_equal(counts[:bins], expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("bits", "spread"), [(8, 0.5), (64, 0.0), (64, 0.5), (300, 0.05), (300, 0.5)])
@pytest.mark.parametrize("k", [1, 100, 1024, 4000])
def test_nearest_of_many_items(monkeypatch, form, bits, spread, k):
    """The limit falls over several chunks, with few or many ties, and k may exceed a chunk."""
    monkeypatch.setattr(numba_layout, "FORM", form)
    case = make_case(6, MANY, 4127, "hamming", "label", bits, spread=spread)
    distances, ids = NumbaEngine().search(case.query_codes, case.database_codes, case.distance, k)
    expected_distances, expected_ids = naive_search(case, k)
    np.testing.assert_array_equal(distances, expected_distances)
    np.testing.assert_array_equal(ids, expected_ids)
    assert_search_among_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("queries", [1, 3, MANY])
@pytest.mark.parametrize("largest", [0, 1, 3, 4, 15, 60, 1000, 2**12])
def test_weights_of_any_size(monkeypatch, form, queries, largest):
    """Costs of half a byte have one to four digits, and distances one, two or four bytes."""
    monkeypatch.setattr(numba_layout, "FORM", form)
    case = make_case(8, queries, 70, "asymmetric", "label", 61)
    weights = torch.randint(0, largest + 1, (queries, 61), generator=torch.Generator().manual_seed(0))
    weights[0] = largest
    case.distance = Asymmetric(61, weights.to(torch.int32))
    assert_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("widths", [(3, 3, 1, 4, 0, 2, 0), (0, 4) * 9, (1,) * 13, (2, 5, 8), (4,) * 80, (0, 1)])
def test_levels_of_any_widths(monkeypatch, form, widths):
    monkeypatch.setattr(numba_layout, "FORM", form)
    case = make_case(9, MANY, 130, "hamming", "label", sum(widths))
    case.distance = VariableManhattan(widths)
    assert_equals_naive(NumbaEngine(), case)


def test_databases_are_searched_in_parts(monkeypatch):
    """Ties between parts are ordered by id, and the last part has fewer items than neighbours are wanted."""
    monkeypatch.setattr(numba_engine, "PART", 32)
    for queries in (1, MANY):
        case = make_case(3, queries, 100, "hamming", "label", 9)
        assert_equals_naive(NumbaEngine(), case)
        assert_search_among_equals_naive(NumbaEngine(), case)


@pytest.mark.parametrize(
    ("features", "form"),
    [
        ({"avx2", "avx512bw", "avx512bitalg", "avx512vpopcntdq"}, "popcounts"),
        ({"avx2", "avx512bw"}, "costs"),
        ({"avx2", "popcnt"}, "costs"),
        ({"sse2", "popcnt"}, "words"),
        ({"neon"}, "popcounts"),
        (set(), "words"),
    ],
)
def test_form_follows_the_processor(features, form):
    assert numba_layout.choose_form(frozenset(features)) == form


def test_form_of_few_queries_follows_the_processor():
    assert numba_layout.choose_few_form(frozenset({"avx2", "avx512f", "avx512vpopcntdq"})) == "rows"
    assert numba_layout.choose_few_form(frozenset({"avx2", "avx512f"})) == "words"


@pytest.mark.ci
@pytest.mark.parametrize(
    ("processor", "features", "form"),
    [
        ("generic", "", "words"),
        pytest.param("haswell", "+avx2,+popcnt", "costs", marks=NEEDS_AVX2),
    ],
)
def test_processors_with_fewer_instructions(tmp_path, processor, features, form):
    environment = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BASELINE_PROCESS, str(Path(__file__).parent), form],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "equal", done.stderr


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
