"""Single-bit quantisation."""

import torch

from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.relaxations.tanh import Tanh
from deephash.quantizers.sbq import SBQ
from deephash.ranking.distance import Hamming


def test_bits_are_the_sides_of_zero_and_zero_is_one():
    quantizer = SBQ(3).fit(torch.tensor([[5.0, 6.0, 7.0]]))
    assert quantizer.thresholds.tolist() == [0, 0, 0]
    assert quantizer.quantize(torch.tensor([[-0.1, 0.0, 0.1], [1.0, -1.0, -0.0]])).tolist() == [
        [False, True, True],
        [True, False, True],
    ]


def test_moved_thresholds_count():
    quantizer = SBQ(2)
    with torch.no_grad():
        quantizer.thresholds.copy_(torch.tensor([1.0, -1.0]))
    projections = torch.tensor([[0.5, 0.5], [1.0, -1.0], [0.99, -1.01]])
    assert quantizer.quantize(projections).tolist() == [[False, True], [True, True], [False, False]]
    assert quantizer(projections).tolist() == [[-1, 1], [1, 1], [-1, -1]]


def test_one_bit_a_projection_ranked_by_hamming_distance():
    assert SBQ(13).projection_dim == 13
    assert SBQ(13).distance == Hamming(13)


def test_each_quantizer_has_its_own_default_relaxation():
    one, other = SBQ(2), SBQ(2)
    assert isinstance(one.relaxation, StraightThrough)
    assert one.relaxation is not other.relaxation


def test_given_relaxation_is_used():
    quantizer = SBQ(1, Tanh())
    margins = torch.tensor([[0.3]])
    assert torch.equal(quantizer(margins), margins.tanh())
    assert bool(quantizer.quantize(margins))
