"""Anchors and distances to them."""

import pytest
import torch

from deephash.functional import anchors as module
from deephash.functional.anchors import (
    kmeans_anchors,
    mean_squared_distance,
    nearest_anchors,
    random_anchors,
    squared_distances,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = 100 + 3 * torch.randn(500, 7, generator=generator(1))
DISTANCES = (FEATURES.double()[:, None] - FEATURES.double()[None, :20]).square().sum(2)


def test_random_anchors_are_distinct_rows():
    drawn = random_anchors(FEATURES, 50, generator())
    rows = (drawn[:, None] == FEATURES).all(2).nonzero()
    assert len(rows) == 50
    assert len(rows[:, 1].unique()) == 50
    assert not torch.equal(drawn, random_anchors(FEATURES, 50, generator(2)))


def test_kmeans_anchors_are_the_means_of_their_clusters():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    labels = torch.arange(300) % 3
    features = centres[labels] + 0.1 * torch.randn(300, 2, dtype=torch.float64, generator=generator(3))
    found = kmeans_anchors(features, 3, generator())
    assert found.dtype == torch.float64
    # A random start may end with two centres in one of the three bumps; the means of what is nearest they are even so.
    nearest = torch.cdist(features, found).argmin(1)
    expected = torch.stack([features[nearest == c].mean(0) for c in range(3)])
    assert torch.allclose(found, expected, atol=1e-5)
    assert float((features - found[nearest]).square().sum(1).mean()) < 40


def test_kmeans_of_many_rows_takes_a_sample():
    features = torch.randn(3000, 4, generator=generator(4))
    assert kmeans_anchors(features, 5, generator()).shape == (5, 4)
    assert torch.equal(kmeans_anchors(features, 5, generator()), kmeans_anchors(features, 5, generator()))


def test_squared_distances_far_from_the_origin():
    found = squared_distances(FEATURES, FEATURES[:20])
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), DISTANCES, rtol=1e-4, atol=1e-3)
    assert bool((found >= 0).all())


def test_squared_distances_are_differentiable():
    x, a = FEATURES[:4].double().requires_grad_(), FEATURES[7:10].double().requires_grad_()
    assert torch.autograd.gradcheck(squared_distances, (x, a))


def test_mean_squared_distance_is_that_of_all_pairs(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PAIRS", 7 * 64)
    assert mean_squared_distance(FEATURES, FEATURES[:20]) == pytest.approx(float(DISTANCES.mean()), rel=1e-5)


def test_nearest_anchors_in_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PAIRS", 20 * 33)
    distances, ids = nearest_anchors(FEATURES.double(), FEATURES[:20].double(), 3)
    expected = DISTANCES.sort(1)
    assert torch.equal(ids, expected.indices[:, :3])
    assert torch.allclose(distances, expected.values[:, :3])
