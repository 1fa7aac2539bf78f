"""Codewords with a minimal distance: the bound, the distances, and the best mean."""

import itertools
from math import comb

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.functional.separated_codewords import (
    gilbert_varshamov_distance,
    minimal_distance,
    separated_codewords,
)
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distances(codewords):
    rows = codewords.tolist()
    return [sum(a != b for a, b in zip(u, v, strict=True)) for u, v in itertools.combinations(rows, 2)]


def volume(length, radius):
    return sum(comb(length, i) for i in range(radius + 1))


@given(st.integers(1, 40), st.data())
def test_the_bound_is_the_first_distance_whose_balls_fill_the_space(length, data):
    classes = data.draw(st.integers(2, min(2**length, 2000)))
    distance = gilbert_varshamov_distance(classes, length)
    assert classes * volume(length, distance - 1) >= 2**length
    assert distance == 1 or classes * volume(length, distance - 2) < 2**length


@settings(max_examples=30, deadline=None)
@given(st.integers(12, 40), st.integers(2, 40), st.integers(0, 2**20))
def test_codewords_keep_the_bound_and_follow_from_the_seed(length, classes, seed):
    codewords = separated_codewords(classes, length, generator(seed))
    assert codewords.shape == (classes, length)
    assert bool((codewords.abs() == 1).all())
    assert min(distances(codewords)) == minimal_distance(codewords)
    assert minimal_distance(codewords) >= gilbert_varshamov_distance(classes, length)
    assert torch.equal(separated_codewords(classes, length, generator(seed)), codewords)
    # No set of codewords is further apart on average than one in which half of the codewords have each bit. Only the
    # minimal distance may prevent that.
    most = length * (classes // 2) * (classes - classes // 2)
    assert 0.99 * most <= sum(distances(codewords)) <= most


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.data())
def test_short_codewords_differ_though_the_bound_may_be_out_of_reach(length, data):
    classes = data.draw(st.integers(2, 2 ** (length - 1)))
    codewords = separated_codewords(classes, length, generator())
    assert minimal_distance(codewords) >= 1
    assert minimal_distance(codewords) >= gilbert_varshamov_distance(classes, length) - 2


def test_usual_sizes_reach_the_bound_where_other_codewords_do_not():
    for classes, length, other in ((100, 16, 2), (100, 32, 7), (10, 48, 20)):
        found = minimal_distance(separated_codewords(classes, length, generator()))
        assert found >= gilbert_varshamov_distance(classes, length) > other


def test_other_seeds_give_other_codewords():
    first, second = (separated_codewords(10, 24, generator(seed)) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_one_class_has_one_codeword():
    assert separated_codewords(1, 8).shape == (1, 8)
    assert minimal_distance(torch.ones(1, 8)) == 8


def test_more_classes_than_codewords_are_refused():
    with pytest.raises(InvalidInputError, match="17 classes exceed the 16 codewords of 4 bits; raise bits"):
        separated_codewords(17, 4)
