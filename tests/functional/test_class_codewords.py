"""Codewords of classes: their distances, and the majority of several."""

import pytest
import torch

from deephash.functional.class_codewords import (
    bernoulli_codewords,
    class_codewords,
    hadamard_matrix,
    random_codeword,
    target_codewords,
)
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distances(codewords):
    differ = (codewords[:, None] != codewords).sum(2)
    return differ[~torch.eye(len(codewords), dtype=torch.bool)]


@pytest.mark.parametrize("order", [1, 2, 4, 64])
def test_rows_of_hadamard_matrices_are_orthogonal(order):
    matrix = hadamard_matrix(order)
    assert bool((matrix.abs() == 1).all())
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order))


@pytest.mark.parametrize(("classes", "length"), [(10, 64), (16, 16), (2, 1), (10, 8), (32, 16)])
def test_hadamard_codewords_are_half_the_bits_apart(classes, length):
    codewords = class_codewords(classes, length, "hadamard", generator())
    assert codewords.shape == (classes, length)
    apart = set(distances(codewords).tolist())
    assert apart <= {length // 2, length}
    assert (length in apart) == (classes > length), "opposite codewords come only where the others do not suffice"


@pytest.mark.parametrize(("classes", "length"), [(10, 24), (33, 16)])
def test_without_hadamard_rows_they_are_fair_coins(classes, length):
    given = class_codewords(classes, length, "hadamard", generator())
    assert torch.equal(given, class_codewords(classes, length, "bernoulli", generator()))


def test_fair_coins_are_the_best_of_several_sets():
    nearest, alone = [], []
    for seed in range(50):
        codewords = bernoulli_codewords(10, 32, generator(seed))
        assert bool((codewords.abs() == 1).all())
        nearest.append(int(distances(codewords).min()))
        draw = torch.randint(2, (10, 32), generator=generator(seed)).float()
        alone.append(int(distances(draw).min()))
    assert min(nearest) >= 8
    assert sum(nearest) > sum(alone) + 50
    assert abs(float(torch.stack([bernoulli_codewords(10, 32, generator(seed)) for seed in range(50)]).mean())) < 0.05


def test_codewords_differ_while_there_are_any():
    for classes, length in ((4, 2), (8, 4), (3, 2)):
        assert len(class_codewords(classes, length, "hadamard").unique(dim=0)) == classes


def test_target_of_several_classes_is_their_majority():
    codewords = torch.tensor([[1.0, 1, 1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    ties = torch.tensor([-1.0, 1, -1, 1])
    labels = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    expected = [[1, -1, 1, -1], [1, 1, -1, 1], [1, -1, 1, -1], [0, 0, 0, 0]]
    assert target_codewords(labels, codewords, ties).tolist() == expected
    assert torch.equal(target_codewords(torch.tensor([2, 0]), codewords, ties), codewords[[2, 0]])


def test_draws_follow_the_generator():
    assert not torch.equal(random_codeword(64, generator(1)), random_codeword(64, generator(2)))
    for construction in ("hadamard", "bernoulli"):
        given = [class_codewords(5, 16, construction, generator(seed)) for seed in (1, 1, 2)]
        assert torch.equal(given[0], given[1])
        assert not torch.equal(given[0], given[2])


def test_bad_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="5 classes exceed the 4 codewords of 2 bits; raise bits"):
        class_codewords(5, 2, "bernoulli")
    with pytest.raises(InvalidInputError, match="classes=0; expected a whole number of at least 1"):
        class_codewords(0, 2, "bernoulli")
    with pytest.raises(InvalidInputError, match="codewords='gold'; expected one of: bernoulli, hadamard"):
        class_codewords(2, 2, "gold")
