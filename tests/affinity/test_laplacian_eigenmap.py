"""Graphs of known neighbours and their smoothest vectors against plain dense versions."""

import numpy as np
import torch
from scipy.sparse import csr_array

from deephash.affinity.label import Label
from deephash.affinity.laplacian_eigenmap import (
    balanced_bits,
    build_affinity_graph,
    smoothest_vectors,
)
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph


def features_of(n=300, d=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).abs() + 0.2


def nearest_graph(features):
    return csr_array(symmetric_graph(nearest_neighbours(features, 10)))


def plain_eigenmap(graph, k):
    """L y = λ D y by a dense generalised solver, the constant vector left out."""
    from scipy.linalg import eigh

    degrees = np.diag(graph.sum(1))
    return eigh(degrees - graph, degrees)[1][:, 1 : k + 1]


def test_eigenmap_equals_a_dense_generalised_solver():
    features = features_of()
    graph = nearest_graph(features)
    found, expected = smoothest_vectors(graph, features, 12).numpy(), plain_eigenmap(graph.toarray(), 12)
    weighted = expected.T @ (graph.sum(1)[:, None] * found)
    np.testing.assert_allclose(np.abs(weighted), np.eye(12), atol=1e-7)
    largest = np.abs(found).argmax(0)
    assert (found[largest, np.arange(12)] > 0).all()


def test_vectors_are_uncorrelated_and_leave_the_constant_out():
    features = features_of()
    labels = torch.arange(300) % 5
    graphs = [nearest_graph(features), build_affinity_graph(features, Label().supervise(features, labels))]
    for graph in graphs:
        vectors, degrees = smoothest_vectors(graph, features, 9).numpy(), graph.sum(1)
        np.testing.assert_allclose(vectors.T @ (degrees[:, None] * vectors), np.eye(9), atol=1e-9)
        np.testing.assert_allclose(degrees @ vectors, 0, atol=1e-9)


def test_parts_of_a_graph_come_first_and_are_told_apart_by_their_means():
    labels = torch.arange(300) % 4
    means = torch.tensor([[0.0, 0], [9, 1], [0, 3], [9, 4]], dtype=torch.float64)
    features = torch.cat([means[labels], torch.zeros(300, 3, dtype=torch.float64)], 1) + features_of(300, 5)
    graph = build_affinity_graph(features, Label().supervise(features, labels))
    vectors = smoothest_vectors(graph, features, 6)
    for label in range(4):
        assert float(vectors[labels == label, :3].std(0).max()) < 1e-9
    first = balanced_bits(vectors)[:, 0]
    assert torch.equal(first, (labels % 2 == 1) == bool(first[1])), "the means differ most between {0, 2} and {1, 3}"
    # Later vectors live on one part each, and are exactly 0 elsewhere: noise would make bits of it.
    for j in range(3, 6):
        assert len(labels[vectors[:, j] != 0].unique()) == 1


def test_affinity_graph_joins_the_named_neighbours_alone():
    features, labels = features_of(50), torch.arange(50) % 3
    graph = build_affinity_graph(features, Label().supervise(features, labels)).toarray()
    unit = torch.nn.functional.normalize(features, dim=1)
    same = labels[:, None] == labels
    expected = torch.where(same, unit @ unit.T, 0).fill_diagonal_(0)
    np.testing.assert_allclose(graph, expected.numpy(), atol=1e-12)


def test_items_without_a_neighbour_are_kept():
    features = features_of(40)
    labels = torch.zeros(40, 2, dtype=torch.bool)
    labels[:30, 0] = True
    graph = build_affinity_graph(features, Label().supervise(features, labels))
    vectors = smoothest_vectors(graph, features, 5)
    assert not vectors.isnan().any()
    assert bool((vectors.std(0) > 0).all())


def test_medians_balance_bits_as_far_as_ties_allow():
    distinct = features_of(101, 4)
    assert balanced_bits(distinct).sum(0).tolist() == [51] * 4
    tied = torch.tensor([[0.0] * 7 + [1] * 3, [1.0] * 7 + [0] * 3]).T
    assert balanced_bits(tied).sum(0).tolist() == [3, 7]
