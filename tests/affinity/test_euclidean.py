"""Exact neighbourhoods against plain float64 NumPy: ties, duplicates, offsets, scales and block sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.affinity.euclidean import as_array, find_nearest, find_within_radius, squared_distances


def plain_squared(queries, database):
    return np.array([[((a.astype(float) - b.astype(float)) ** 2).sum() for b in database] for a in queries])


def plain_nearest(squared, k):
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sort(order, axis=1), np.take_along_axis(squared, order, 1)[:, -1]


def listed(blocks):
    counts, ids = zip(*blocks, strict=True)
    return np.split(np.concatenate(ids), np.concatenate(counts).cumsum()[:-1])


def features(seed, n, d, kind):
    rng = np.random.default_rng(seed)
    if kind == "ties":  # few values: most distances are shared, and many rows are duplicates
        return rng.integers(0, 3, (n, d)).astype(np.float32)
    if kind == "far":  # float32 products of these have no correct digit
        return (rng.integers(0, 4, (n, d)) + 2**20).astype(np.float32)
    if kind == "huge":
        return (rng.standard_normal((n, d)) * 1e30).astype(np.float32)
    if kind == "tiny":
        return rng.standard_normal((n, d)) * 1e-30
    if kind == "close":  # distances that differ far below float32's resolution
        return 1 + rng.integers(0, 50, (n, d)) * 1e-12
    return rng.standard_normal((n, d)).astype(np.float32)


KINDS = ("normal", "ties", "far", "huge", "tiny", "close")


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    q=st.integers(1, 7),
    n=st.integers(1, 60),
    d=st.integers(1, 9),
    kind=st.sampled_from(KINDS),
    block_pairs=st.integers(1, 500),
    data=st.data(),
)
def test_equal_to_plain_float64(seed, q, n, d, kind, block_pairs, data):
    both = features(seed, q + n, d, kind)
    queries, database = both[:q], both[q:]
    squared = plain_squared(queries, database)
    k = data.draw(st.integers(1, n))
    ids, kth = find_nearest(queries, database, k, block_pairs)
    expected_ids, expected_kth = plain_nearest(squared, k)
    assert (ids == expected_ids).all()
    assert kth == pytest.approx(expected_kth, rel=1e-14, abs=0)
    # A radius that is some pair's own distance puts pairs on the boundary itself.
    radius = float(np.sqrt(data.draw(st.sampled_from(sorted(squared.flatten().tolist())))))
    for row, found in zip(squared, listed(find_within_radius(queries, database, radius, block_pairs)), strict=True):
        sure = np.flatnonzero(row < radius * radius * (1 - 1e-14))
        possible = np.flatnonzero(row <= radius * radius * (1 + 1e-14))
        assert set(sure) <= set(found) <= set(possible)
        assert (np.diff(found) > 0).all()
        if kind in ("ties", "far"):  # whole numbers, which float64 sums exactly
            assert found.tolist() == np.flatnonzero(row <= radius * radius).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_block_size_changes_nothing(kind):
    both = features(1, 350, 24, kind)
    queries, database = both[:50], both[50:]
    whole = find_nearest(queries, database, 20)
    radius = float(np.sqrt(np.median(whole[1])))
    whole_ball = listed(find_within_radius(queries, database, radius))
    for block_pairs in (1, 1000, 7777):
        parts = find_nearest(queries, database, 20, block_pairs)
        assert (parts[0] == whole[0]).all()
        assert (parts[1] == whole[1]).all()
        ball = listed(find_within_radius(queries, database, radius, block_pairs))
        assert all(np.array_equal(a, b) for a, b in zip(ball, whole_ball, strict=True))


def test_identical_items_are_all_at_distance_zero():
    database = np.full((40, 5), 0.1, np.float32)
    ids, kth = find_nearest(database[:2], database, 7)
    assert ids.tolist() == [[0, 1, 2, 3, 4, 5, 6]] * 2
    assert kth.tolist() == [0, 0]
    assert [len(found) for found in listed(find_within_radius(database[:2], database, 0.0))] == [40, 40]


def test_no_queries():
    database = np.zeros((4, 3), np.float32)
    ids, kth = find_nearest(database[:0], database, 2)
    assert ids.shape == (0, 2)
    assert kth.shape == (0,)
    assert list(find_within_radius(database[:0], database, 1.0)) == []


def test_squared_distances_of_pairs():
    queries, database = features(0, 3, 4, "normal"), features(1, 5, 4, "normal")
    squared = squared_distances(queries, database, np.array([2, 0, 2]), np.array([4, 4, 0]))
    assert squared == pytest.approx(plain_squared(queries, database)[[2, 0, 2], [4, 4, 0]], rel=1e-15)


def test_matrix_product_settings_change_nothing():
    both = features(2, 300, 64, "normal")
    before = find_nearest(both[:20], both[20:], 10)
    torch.set_float32_matmul_precision("medium")
    try:
        after = find_nearest(both[:20], both[20:], 10)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (before[0] == after[0]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_floating_dtype(dtype):
    values = torch.tensor([[0.5, 1.0], [2.0, -1.0], [0.25, 0.75]], dtype=dtype, requires_grad=True)
    array = as_array(values)
    assert array.tolist() == values.tolist()
    ids, _ = find_nearest(array[:1], array, 2)
    assert ids.tolist() == [[0, 2]]


def test_real_sift_neighbours(real_data):
    with np.load(real_data / "siftsmall.npz", allow_pickle=False) as stored:
        base, query, truth = (stored[name].astype(np.float32) for name in ("base", "query", "groundtruth"))
    ids, kth = find_nearest(query, base, 100, 123_456)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(ids, truth, strict=True)]
    assert np.mean(shared) > 99.7  # of 100; what differs is ties
    for i in range(len(query)):
        squared = ((query[i].astype(float) - base) ** 2).sum(1)
        assert kth[i] == np.sort(squared)[99]
        assert ids[i].tolist() == sorted(np.argsort(squared, kind="stable")[:100])
        assert squared[truth[i].astype(int)].max() == kth[i]
    ball = listed(find_within_radius(query, base, 250.0))
    for i in range(len(query)):
        assert ball[i].tolist() == np.flatnonzero(((query[i].astype(float) - base) ** 2).sum(1) <= 62500).tolist()
