"""DCHMT: against loops over concatenated selections, its margin in bits, and what it leaves alone."""

import math
from dataclasses import replace

import pytest
import torch

from deephash.losses.batch import TrainingBatch
from deephash.losses.dchmt import DCHMT, similarity_costs, squared_selection_distances
from deephash.quantizers.relaxations.two_way_selection import select_by_softmax
from deephash.validation import InvalidInputError

ITEMS, LENGTH = 5, 6


def random_batch(several=False, length=LENGTH):
    """Each item's image, then each one's text but the last's."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([torch.arange(ITEMS), torch.arange(ITEMS - 1)])
    views = torch.cat([torch.zeros(ITEMS), torch.ones(ITEMS - 1)]).long()
    codes = 1.8 * torch.rand(len(rows), length, generator=generator, dtype=torch.float64) - 0.9
    indicators = torch.nn.functional.one_hot(torch.arange(ITEMS) % 3, 3)
    if several:
        indicators = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]])
    shared = (indicators @ indicators.T > 0)[rows][:, rows]
    return TrainingBatch(codes, codes, codes, rows, neighbours=shared, rows=rows, views=views)


def looped(batch, error_rate):
    # The paper's codes: the probabilities of 0 and 1, one pair after the other.
    selections = select_by_softmax(2 * torch.atanh(batch.codes)).flatten(1).tolist()
    views, neighbours = batch.views.tolist(), batch.neighbours.tolist()
    length = batch.codes.shape[1]
    furthest = math.sqrt(2 * length * error_rate)
    terms = {"across": [], 0: [], 1: []}
    for i, u in enumerate(selections):
        for j, v in enumerate(selections):
            distance = math.dist(u, v)
            cost = distance**2 if neighbours[i][j] else max(0, furthest - distance) ** 2
            if views[i] != views[j]:
                terms["across"].append(cost)
            elif i != j:
                terms[views[i]].append(cost)
    return sum(sum(costs) / len(costs) for costs in terms.values()) / length


@pytest.mark.parametrize("error_rate", [0.1, 0.5, 1])
@pytest.mark.parametrize("several", [False, True])
def test_it_is_the_loop_s(error_rate, several):
    batch = random_batch(several)
    assert float(DCHMT(error_rate)(batch)) == pytest.approx(looped(batch, error_rate))


def test_distances_of_hard_codes_are_hamming_distances():
    codes = torch.where(random_batch().codes > 0, 1.0, -1.0)
    hamming = (codes[:, None] != codes).sum(2)
    assert torch.equal(squared_selection_distances(codes, codes), 2.0 * hamming)


def test_others_cost_nothing_beyond_their_share_of_bits_and_neighbours_only_at_0():
    codes = torch.ones(6, 8)
    for row, differing in enumerate((0, 3, 4, 5, 8)):
        codes[row + 1, :differing] = -1
    squares = squared_selection_distances(codes[:1], codes)
    furthest = (2 * 8 * 0.5) ** 0.5
    others = similarity_costs(squares, torch.zeros(1, 6).bool(), furthest)[0]
    assert [bool(cost < 1e-9) for cost in others] == [False, False, False, True, True, True]
    near = similarity_costs(squares, torch.ones(1, 6).bool(), furthest)[0]
    assert torch.equal(near, torch.tensor([0.0, 0, 6, 8, 10, 16]))


def test_equal_codes_of_others_have_a_finite_slope():
    batch = random_batch()
    codes = torch.ones_like(batch.codes).requires_grad_()
    DCHMT()(replace(batch, codes=codes)).backward()
    assert bool(codes.grad.isfinite().all())


def test_descent_separates_the_classes_in_all_directions():
    batch = random_batch(length=16)
    margins = torch.atanh(batch.codes).requires_grad_()
    optimizer = torch.optim.Adam([margins], 0.1)
    for _ in range(150):
        optimizer.zero_grad()
        DCHMT()(replace(batch, codes=margins.tanh())).backward()
        optimizer.step()
    hamming = ((margins[:, None] >= 0) != (margins >= 0)).sum(2)
    assert int(hamming[batch.neighbours].max()) < int(hamming[~batch.neighbours].min())


def test_the_share_is_checked():
    for bad in (-0.1, 1.5, "half"):
        with pytest.raises(InvalidInputError, match=f"error_rate={bad!r}"):
            DCHMT(bad)
