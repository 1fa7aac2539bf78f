"""The graph step on graphs small enough to work out, and against a plain NumPy version."""

import numpy as np
import pytest
import torch

from deephash.affinity import graph_regularisation
from deephash.affinity.graph_regularisation import graph_step, neighbour_counts, regularise
from deephash.affinity.label import Label
from deephash.affinity.supervision import ListedPairs


def random_graph(n=40, pairs=90, bits=6):
    generator = torch.Generator().manual_seed(0)
    graph = ListedPairs(torch.randint(n, (pairs, 2), generator=generator), n)
    return graph, torch.rand(n, bits, generator=generator) < 0.5, torch.rand(n, bits, generator=generator) < 0.5


def step(graph, bits, initial, alpha):
    return graph_step(graph, neighbour_counts(graph), bits, initial, alpha)


def plain_step(graph, bits, initial, alpha):
    """The paper's formula with the matrices written out; a tie counts as +1."""
    similar = graph.among(torch.arange(len(graph))).numpy().astype(float)
    degrees = np.diag(1 / similar.sum(0))
    values = alpha * similar @ degrees @ np.where(bits, 1, -1) + (1 - alpha) * np.where(initial, 1, -1)
    return values >= -1e-9


def test_alpha_0_gives_the_initial_bits():
    graph, bits, initial = random_graph()
    assert not torch.equal(bits, initial)
    assert torch.equal(step(graph, bits, initial, 0.0), initial)


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9, 1.0])
def test_equal_to_plain_numpy(alpha):
    graph, bits, initial = random_graph()
    expected = plain_step(graph, bits.numpy(), initial.numpy(), alpha)
    found = step(graph, bits, initial, alpha)
    assert np.array_equal(found.numpy(), expected)
    assert not torch.equal(found, bits)


def test_a_star_and_a_pair_by_hand():
    # Item 0 has the neighbours 1, 2 and 3, itself counted degree 4, theirs 2; items 4 and 5 are a pair.
    graph = ListedPairs(torch.tensor([[0, 1], [0, 2], [0, 3], [4, 5]]), 6)
    assert neighbour_counts(graph).tolist() == [4, 2, 2, 2, 2, 2]
    bits = torch.tensor([[True], [False], [False], [True], [True], [False]])
    # Item 0: 1/4 - 1/2 - 1/2 + 1/2 < 0. Item 1: 1/4 - 1/2 < 0. Item 3: 1/4 + 1/2 > 0. The pair ties, and sgn(0) = 1.
    assert step(graph, bits, bits, 1.0).flatten().tolist() == [False, False, False, True, True, True]
    # Half the initial bit holds item 0 back: (-1/4 + 1) / 2 > 0.
    assert step(graph, bits, bits, 0.5).flatten().tolist() == [True, False, False, True, True, False]


def test_a_class_goes_with_its_majority():
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    bits = torch.tensor([[True], [True], [False], [False], [True], [False]])
    graph = Label().supervise(torch.zeros(6, 1), labels)
    assert step(graph, bits, bits, 1.0).flatten().tolist() == [True, True, True, False, False, False]
    # Up to one half, no majority outweighs an item's own initial bit.
    assert torch.equal(step(graph, bits, bits, 0.5), bits)


def test_an_item_without_neighbours_takes_its_initial_bits():
    labels = torch.tensor([[True], [True], [False], [False]])
    bits = torch.tensor([[True, False], [True, False], [True, True], [True, False]])
    initial = torch.tensor([[True, False], [True, False], [False, True], [True, False]])
    graph = Label().supervise(torch.zeros(4, 1), labels)
    assert neighbour_counts(graph).tolist() == [2, 2, 0, 0]
    assert torch.equal(step(graph, bits, initial, 1.0), initial)


def test_a_bit_that_would_tell_nothing_apart_is_left():
    graph = Label().supervise(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    bits = torch.tensor([[True], [True], [False]])
    assert torch.equal(step(graph, bits, bits, 1.0), bits)


def test_blocks_do_not_matter(monkeypatch):
    graph, bits, initial = random_graph()
    whole, degrees = step(graph, bits, initial, 0.7), neighbour_counts(graph)
    monkeypatch.setattr(graph_regularisation, "BLOCK_PAIRS", 3 * len(graph))
    assert torch.equal(step(graph, bits, initial, 0.7), whole)
    assert torch.equal(neighbour_counts(graph), degrees)


def test_each_round_starts_from_what_was_learnt_before():
    graph, bits, initial = random_graph()
    taught = []

    def learn(given):
        taught.append(given)
        return bits if len(taught) == 1 else given

    regularise(graph, initial, 0.8, 3, learn)
    assert len(taught) == 3
    assert torch.equal(taught[0], step(graph, initial, initial, 0.8))
    assert torch.equal(taught[1], step(graph, bits, initial, 0.8))
    assert torch.equal(taught[2], step(graph, taught[1], initial, 0.8))
