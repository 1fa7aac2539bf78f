"""Hierarchical quantisation: thresholds of least cost over the anchor graph, and the codes of the four regions."""

import numpy as np
import pytest
import torch

from deephash.functional.anchors import anchor_graph_weights
from deephash.quantizers.hq import HQ, second_thresholds
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError


def slow_weights(rows, anchors, s):
    """Z, dense."""
    distances = ((rows[:, None] - anchors[None]) ** 2).sum(-1)
    nearest = np.argsort(distances, 1)[:, :s]
    bandwidth = np.sqrt(np.take_along_axis(distances, nearest[:, -1:], 1)).mean() ** 2
    z = np.zeros_like(distances)
    for i, columns in enumerate(nearest):
        z[i, columns] = np.exp(-distances[i, columns] / bandwidth)
    return z / z.sum(1, keepdims=True)


def slow_thresholds(y, z):
    """b- and b+ of least fᵀ L f under Σ f = 0, by the equations of a quadratic with one constraint."""
    laplacian = np.eye(len(y)) - z @ np.diag(1 / z.sum(0)) @ z.T
    positive = y >= 0
    # f = |y| + M (b-, b+).
    m = np.stack([(~positive).astype(float), -positive.astype(float)], 1)
    system = np.zeros((3, 3))
    system[:2, :2] = 2 * m.T @ laplacian @ m
    system[:2, 2] = system[2, :2] = m.sum(0)
    right = np.append(-2 * m.T @ laplacian @ np.abs(y), -np.abs(y).sum())
    return np.linalg.solve(system, right)[:2]


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_have_the_least_cost_of_all_balanced_ones(seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((120, 3)) ** (1 if seed % 2 else 3)
    rows -= rows.mean(0) * (seed < 4)
    anchors = rows[rng.choice(120, 15, replace=False)]
    z = slow_weights(rows, anchors, 3)
    weights, ids, _ = anchor_graph_weights(torch.from_numpy(rows), torch.from_numpy(anchors), 3)
    dense = torch.zeros(120, 15, dtype=torch.float64).scatter_(1, ids, weights)
    np.testing.assert_allclose(dense.numpy(), z, atol=1e-9)
    for j in range(3):
        low, high = slow_thresholds(rows[:, j], z)
        found = second_thresholds(torch.from_numpy(rows[:, j]), weights, ids)
        np.testing.assert_allclose(found.numpy(), [min(low, 0), max(high, 0)], atol=1e-7)


def test_a_symmetric_distribution_is_cut_at_its_mean_size():
    """The mean of |y| of a normal distribution is √(2/π) = 0.798."""
    z = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    quantizer = HQ(8).fit(z)
    assert torch.allclose(quantizer.thresholds, torch.tensor([-0.798, 0.0, 0.798]), atol=0.05)


def test_bits_are_those_of_the_paper_s_two_layers():
    quantizer = HQ(6).fit(torch.randn(400, 3, generator=torch.Generator().manual_seed(1)).pow(3))
    y = torch.randn(200, 3, generator=torch.Generator().manual_seed(2))
    low, _, high = quantizer.thresholds.detach().unbind(1)
    second = torch.where(y >= 0, y >= high, y < low)
    assert torch.equal(quantizer.quantize(y), torch.stack([y >= 0, second], -1).flatten(1))
    assert quantizer.distance == Hamming(6)
    assert quantizer.projection_dim == 3


def test_one_sided_and_few_rows():
    for z in (torch.ones(1, 1), torch.ones(3, 1), torch.arange(1.0, 40.0)[:, None]):
        quantizer = HQ(2).fit(z)
        assert quantizer.thresholds[0].tolist() == pytest.approx([-float(z.mean()), 0, float(z.mean())])


def test_same_seed_same_thresholds():
    z = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)).pow(3)
    first, second = (HQ(4, anchors=20).fit(z, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.thresholds, second.thresholds)


def test_refuses_bad_settings():
    with pytest.raises(InvalidInputError, match="bits=7 is not a multiple of the 2 bits per projection; give 6 or 8"):
        HQ(7)
    with pytest.raises(InvalidInputError, match="anchors=0; expected a whole number of at least 1"):
        HQ(8, anchors=0)
    with pytest.raises(InvalidInputError, match=r"nearest=1\.5; expected a whole number of at least 1"):
        HQ(8, nearest=1.5)
