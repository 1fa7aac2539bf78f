"""Anchor graph hashing: eigenfunctions of the dense graph, the two-layer rule, real features."""

import numpy as np
import pytest
import torch

from deephash import Hasher
from deephash.metrics.average_precision import average_precision
from deephash.projections.agh import AGH, anchor_graph_spectrum, anchor_weights
from deephash.quantizers.hq import HQ, second_thresholds
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.relevance import SharedLabel
from deephash.validation import InvalidInputError


def features_of(n=500, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(3, 0.5, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * spread + 2


def plain_weights(features, anchors, s, bandwidth=None):
    """Z, dense, as the paper defines it, one row after another."""
    distances = np.square(features[:, None] - anchors[None]).sum(-1)
    order = np.argsort(distances, 1)[:, :s]
    if bandwidth is None:
        bandwidth = np.mean([np.sqrt(row[columns[-1]]) for row, columns in zip(distances, order, strict=True)])
    z = np.zeros_like(distances)
    for i, columns in enumerate(order):
        z[i, columns] = np.exp(-distances[i, columns] / bandwidth**2)
        z[i] /= z[i].sum()
    return z, bandwidth


@pytest.mark.parametrize("s", [2, 4])
def test_projections_are_eigenvectors_of_the_dense_graph(s):
    features = features_of()
    agh = AGH(6, 5, anchors=20, nearest=s).double().fit(features)
    z, bandwidth = plain_weights(features.numpy(), agh.centres.detach().numpy(), s)
    assert float(agh.bandwidth.detach()) == pytest.approx(bandwidth)
    graph = z @ np.diag(1 / z.sum(0)) @ z.T
    np.testing.assert_allclose(graph.sum(1), 1)
    y = agh(features).detach().numpy()
    values, vectors = np.linalg.eigh(graph)
    values, vectors = values[::-1], vectors[:, ::-1]
    assert values[1] < 1 - 1e-6, "the graph must hold together for the comparison"
    np.testing.assert_allclose(graph @ y, y * values[1:6], atol=1e-8)
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(5), atol=1e-8)
    np.testing.assert_allclose(y.sum(0), 0, atol=1e-7)
    np.testing.assert_allclose(np.abs((vectors[:, 1:6] * y).sum(0)) / len(y) ** 0.5, 1, atol=1e-8)


def test_new_items_are_continued_by_their_own_anchors():
    agh = AGH(6, 5, anchors=20, nearest=3).double().fit(features_of())
    queries = features_of(seed=1, n=50)
    z, _ = plain_weights(queries.numpy(), agh.centres.detach().numpy(), 3, float(agh.bandwidth.detach()))
    expected = z @ agh.weights.detach().numpy()
    np.testing.assert_allclose(agh(queries).detach().numpy(), expected, atol=1e-10)


def test_far_from_the_origin_nothing_changes():
    near = features_of().float()
    shares, ids = anchor_weights(near, near[:20], torch.tensor(1.5), 3)
    far_shares, far_ids = anchor_weights(near + 1024, near[:20] + 1024, torch.tensor(1.5), 3)
    same = ids.sort(1).values == far_ids.sort(1).values
    assert float(same.float().mean()) > 0.99
    dense = torch.zeros(500, 20).scatter_(1, ids, shares)
    assert float((torch.zeros(500, 20).scatter_(1, far_ids, far_shares) - dense).abs().median()) < 1e-3


def test_trivial_function_is_dropped_even_where_the_graph_falls_apart():
    """Two parts share eigenvalue 1; one function is constant, and the one kept tells the parts apart."""
    ids = torch.tensor([[0, 1]] * 30 + [[2, 3]] * 70)
    weights = torch.softmax(torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1)
    maps, eigenvalues = anchor_graph_spectrum(weights, ids, 5)
    assert float(eigenvalues[0]) == pytest.approx(1)
    y = (weights[:, :, None] * maps[ids]).sum(1)
    assert float(y[:, 0].mean()) == pytest.approx(0, abs=1e-9)
    assert bool(((y[:30, 0] > 0) != (y[30:, 0][:30] > 0)).all())
    assert bool((maps[4] == 0).all()), "an anchor that no row is near has no say"
    # What varies on one part alone is exactly 0 on the other.
    assert bool(((y[:30, 1:] == 0).all(0) | (y[30:, 1:] == 0).all(0)).all())


def test_two_layers_are_those_of_the_paper():
    """HQ's thresholds from projections lie near the ones that the features' own graph gives; most bits agree."""
    features = features_of(4000)
    hasher = Hasher(AGH(6, 4, anchors=60, nearest=3), HQ(8, anchors=60, nearest=3)).fit(features.float())
    agh = hasher.projection
    y = hasher.project(features.float())
    weights, ids = anchor_weights(features.float(), agh.centres.detach(), agh.bandwidth.detach(), 3)
    paper = torch.stack([second_thresholds(y[:, j], weights, ids) for j in range(4)])
    found = hasher.quantizer.thresholds.detach()[:, 0::2].double()
    assert float((found - paper).abs().max()) < 0.2 * float(paper.abs().mean())
    second = torch.where(y >= 0, y >= paper[:, 1], y < paper[:, 0])
    bits = hasher.quantizer.quantize(y).view(-1, 4, 2)
    assert torch.equal(bits[..., 0], y >= 0)
    assert float((bits[..., 1] == second).float().mean()) > 0.95


def test_sizes_are_lowered_to_the_rows_there_are():
    agh = AGH(6, 5, anchors=300, nearest=20).fit(features_of(12).float())
    assert (agh.anchors, agh.nearest) == (12, 12)
    assert agh.centres.shape == (12, 6)


def test_bad_settings_are_refused():
    for name in ("anchors", "nearest"):
        with pytest.raises(InvalidInputError, match=f"{name}=0; expected a whole number of at least 1"):
            AGH(6, 4, **{name: 0})
    with pytest.raises(InvalidInputError, match="nearest=5 exceeds anchors=4; lower nearest or raise anchors"):
        AGH(6, 2, anchors=4, nearest=5)
    with pytest.raises(InvalidInputError, match="20 projections exceed the 19 directions of a graph with 20 anchors"):
        AGH(6, 20, anchors=20)
    with pytest.raises(InvalidInputError, match="11 projections exceed the 9 directions of a graph with 10 anchors"):
        AGH(6, 11).fit(features_of(10).float())
    with pytest.raises(InvalidInputError, match="all 9 training items lie on their anchors, so the graph has no width"):
        AGH(6, 2).fit(torch.ones(9, 6))


@pytest.mark.data
def test_real_features_score_as_published(cifar10_gist):
    """Published: .162 at 16 bits and no more with longer codes, on more rows than these; two layers are as good."""
    features, labels, _ = cifar10_gist
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(0))
    features, labels = features[order[:21_000]], labels[order[:21_000]]
    relevance = SharedLabel(labels[:1000], labels[1000:])
    scores = {}
    for bits, quantizer in ((16, SBQ), (64, SBQ), (16, HQ)):
        built = quantizer(bits)
        hasher = Hasher(AGH(512, built.projection_dim), built).fit(features[1000:])
        query, database = hasher.encode(features[:1000]), hasher.encode(features[1000:])
        counts = AutoEngine().rank(query, database, hasher.distance, relevance)
        scores[bits, quantizer] = float(average_precision(counts).mean())
    assert all(0.135 < score < 0.19 for score in scores.values()), scores
    assert abs(scores[64, SBQ] - scores[16, SBQ]) < 0.03
    assert scores[16, HQ] > scores[16, SBQ] - 0.005
