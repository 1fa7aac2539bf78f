"""The neighbour graph, against all distances."""

import numpy as np
import torch

from deephash.functional import neighbour_graph as module
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph


def features_of(n=300, d=4):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5


def test_neighbours_are_the_nearest_others(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 70)
    features = features_of()
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    assert torch.equal(nearest_neighbours(features, 7), distances.topk(7, largest=False).indices)


def test_copies_of_an_item_are_its_neighbours_and_it_is_not():
    found = nearest_neighbours(torch.ones(20, 3), 5)
    assert found.shape == (20, 5)
    assert not bool((found == torch.arange(20)[:, None]).any())


def test_graph_joins_where_either_is_a_neighbour():
    graph = symmetric_graph(torch.tensor([[1], [2], [1]])).toarray()
    np.testing.assert_array_equal(graph, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
