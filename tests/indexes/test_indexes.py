"""Our own indexes against a plain scan: the same neighbours, item for item. The contract tests all kinds."""

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import deephash
from deephash.indexes.flat import Flat
from deephash.indexes.mih import MAX_SUBSTRING_BITS, MIH, default_tables, substring_lengths
from deephash.indexes.multi_index_kernels import BUCKET_COST
from deephash.indexes.neighbour_lists import sort_within
from deephash.validation import InvalidInputError


def patient_mih(*arguments, **settings):
    """Never gives a query up: of few codes MIH soon would, and scan."""
    return MIH(*arguments, patience=1e300, **settings)


EXACT = [Flat, MIH, patient_mih]


def clustered_codes(rows, bits, seed, repeated=0.5):
    """Random codes, a share of them copies of others but for few bits, so that there are near ones and ties."""
    rng = np.random.default_rng(seed)
    found = rng.random((rows, bits)) < 0.5
    copies = rng.random(rows) < repeated
    flips = rng.random((rows, bits)) < 0.05
    found[copies] = found[rng.integers(0, rows, copies.sum())] ^ flips[copies]
    return torch.from_numpy(np.packbits(found, axis=1, bitorder="little"))


def scan(queries, codes):
    """Distances (q, N) by NumPy, bit by bit."""
    q, c = (np.unpackbits(array.numpy(), axis=1) for array in (queries, codes))
    return (q[:, None] != c[None]).sum(2)


def scanned_nearest(queries, codes, k):
    distances = scan(queries, codes)
    order = np.lexsort((np.broadcast_to(np.arange(len(codes)), distances.shape), distances))[:, :k]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=25, deadline=None)
@given(
    bits=st.integers(1, 140),
    rows=st.integers(1, 200),
    queries=st.integers(0, 5),
    k=st.integers(1, 200),
    seed=st.integers(0, 99),
)
def test_nearest_are_those_of_a_scan(kind, bits, rows, queries, k, seed):
    codes, asking = clustered_codes(rows, bits, seed), clustered_codes(queries, bits, seed + 1)
    k = min(k, rows)
    distances, ids = kind(codes, bits).search(asking, k)
    expected = scanned_nearest(asking, codes, k) if queries else (np.empty((0, k)), np.empty((0, k)))
    assert distances.dtype == ids.dtype == torch.int64
    np.testing.assert_array_equal(distances, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(("bits", "radius"), [(64, 0), (64, 9), (20, 5), (100, 40), (7, 7)])
def test_within_a_radius_is_all_that_a_scan_finds(kind, bits, radius):
    codes, asking = clustered_codes(300, bits, 3), clustered_codes(9, bits, 4)
    asking[0] = codes[5]
    found = kind(codes, bits).within(asking, radius)
    distances = scan(asking, codes)
    assert found.offsets.tolist() == [0, *np.cumsum((distances <= radius).sum(1))]
    for query in range(len(asking)):
        own = slice(found.offsets[query], found.offsets[query + 1])
        near = np.flatnonzero(distances[query] <= radius)
        near = near[np.argsort(distances[query][near], kind="stable")]
        assert found.ids[own].tolist() == near.tolist()
        assert found.distances[own].tolist() == distances[query][near].tolist()


@pytest.mark.parametrize("kind", EXACT)
def test_equal_codes_come_by_their_ids(kind):
    codes = clustered_codes(1, 64, 0).repeat(50, 1)
    distances, ids = kind(codes, 64).search(codes[:2], 7)
    assert (distances == 0).all()
    assert ids.tolist() == [list(range(7))] * 2


@pytest.mark.parametrize("kind", EXACT)
def test_threads_and_slices_change_nothing(kind):
    codes, asking = clustered_codes(500, 64, 7), clustered_codes(70, 64, 8)
    index = kind(codes, 64)
    whole = index.search(asking, 5)
    apart = [index.search(asking[start : start + 23], 5) for start in range(0, 70, 23)]
    assert torch.equal(whole[1], torch.cat([ids for _, ids in apart]))


@pytest.mark.parametrize("tables", [3, 5, 8, 64])
def test_any_number_of_tables_finds_the_same(tables):
    codes, asking = clustered_codes(400, 64, 1), clustered_codes(20, 64, 2)
    expected = scanned_nearest(asking, codes, 30)
    assert patient_mih(codes, 64, tables=tables).search(asking, 30)[1].tolist() == expected[1].tolist()


def test_near_neighbours_cost_few_comparisons_and_far_ones_no_more_than_a_scan():
    codes = clustered_codes(20_000, 64, 5, repeated=0.9)
    index = MIH(codes, 64)
    near, far = codes[:50], clustered_codes(5, 64, 99, repeated=0)
    index.search(near, 1)
    assert np.median(index.looked_at.sum(1)) < 20_000 / 20
    found = index.search(torch.cat([near[:2], far]), 1)
    buckets, _, scanned = index.looked_at.T
    assert scanned.tolist() == [0, 0, *[20_000] * 5]
    assert (buckets * BUCKET_COST).max() <= 20_000
    assert found[1].tolist() == scanned_nearest(torch.cat([near[:2], far]), codes, 1)[1].tolist()
    assert index.search(far, 1000)[1].tolist() == scanned_nearest(far, codes, 1000)[1].tolist()
    assert (index.looked_at[:, 2] == 20_000).all()


def test_lengths_cover_the_code_and_buckets_hold_about_one_item():
    assert substring_lengths(64, 3) == [22, 21, 21]
    assert sum(substring_lengths(100, 7)) == 100
    assert default_tables(64, 2**16) == 4
    assert default_tables(64, 10**7) == 3
    assert default_tables(256, 10**9) == -(-256 // MAX_SUBSTRING_BITS)


def test_ordered_within_sorts_each_query_alone():
    offsets = torch.tensor([0, 3, 3, 5])
    found = sort_within(offsets, torch.tensor([2, 1, 1, 4, 0]), torch.tensor([7, 9, 3, 1, 2]))
    assert found.distances.tolist() == [1, 1, 2, 0, 4]
    assert found.ids.tolist() == [3, 9, 7, 2, 1]


def test_substrings_that_no_table_can_hold_are_refused():
    with pytest.raises(InvalidInputError, match="tables=2 cuts 64 bits into substrings of 32"):
        MIH(clustered_codes(5, 64, 0), 64, tables=2)
    with pytest.raises(InvalidInputError, match="tables=0"):
        MIH(clustered_codes(5, 64, 0), 64, tables=0)


@pytest.mark.parametrize("queries", [1, 2])
def test_usearch_pads_what_it_does_not_find(queries):
    """A graph of equal codes with two links a node is walked in part."""
    pytest.importorskip("usearch")
    index = deephash.index(torch.zeros(500, 8, dtype=torch.uint8), "usearch", links=2, ef_construction=1, ef_search=1)
    distances, ids = index.search(torch.zeros(queries, 8, dtype=torch.uint8), 400)
    missing = ids == -1
    assert distances.shape == ids.shape == (queries, 400)
    assert 0 < missing.sum(1).min() < 400
    assert (distances[missing] == 65).all()
    assert (distances[~missing] == 0).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_faiss_searches_in_a_child_of_a_process_that_has_searched():
    faiss = pytest.importorskip("faiss")
    codes = clustered_codes(20_000, 64, 0)
    index, threads = deephash.index(codes, "faiss_flat"), faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        index.search(codes[:200], 10)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # A child that waits for ever is ended.
            index.search(codes[:200], 10)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(threads)
