"""Exact k-means on a line, against all partitions and against Lloyd's rounds."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.functional.line_clusters import line_clusters


def squared_error(values, centres):
    return float((np.abs(values[:, None] - centres[None]).min(1) ** 2).sum())


def least_error(values, clusters):
    """The least squared error over all ways to cut the sorted values."""
    ordered, best = np.sort(values), np.inf
    for cuts in combinations(range(1, len(ordered)), clusters - 1):
        parts = np.split(ordered, cuts)
        best = min(best, sum(float(((part - part.mean()) ** 2).sum()) for part in parts))
    return best


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=11), st.integers(1, 5))
def test_no_partition_is_better(values, clusters):
    values = np.array(values, np.float64) / 3
    centres = line_clusters(values, clusters)
    distinct = len(np.unique(values))
    assert len(centres) == min(clusters, distinct)
    assert (np.diff(centres) > 0).all()
    expected = least_error(values, len(centres))
    assert squared_error(values, centres) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("clusters", [4, 8, 16])
def test_no_worse_than_the_best_of_many_random_starts(clusters):
    rng = np.random.default_rng(clusters)
    values = np.concatenate([rng.normal(size=400), rng.exponential(2, 300), rng.normal(9, 0.1, 50)])
    exact = squared_error(values, line_clusters(values, clusters))
    lloyd = []
    for _ in range(20):
        centres = rng.choice(values, clusters, replace=False)
        for _ in range(60):
            nearest = np.abs(values[:, None] - centres[None]).argmin(1)
            centres = np.array(
                [values[nearest == c].mean() if (nearest == c).any() else centres[c] for c in range(clusters)]
            )
        lloyd.append(squared_error(values, centres))
    assert exact <= min(lloyd) + 1e-9
    assert exact < np.mean(lloyd)


def test_values_far_from_zero_keep_their_digits():
    values = np.repeat([0.0, 1e-3, 2e-3, 5e-3], 5) + 1e5
    assert line_clusters(values, 4).tolist() == pytest.approx(np.unique(values).tolist(), abs=1e-9)
