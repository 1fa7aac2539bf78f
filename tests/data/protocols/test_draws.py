"""Dealing items into parts: exact sizes, exact strata, and the same split for a seed on every platform."""

import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deephash.data.protocols.draws import check_size, deal, find_strata, proportional_quotas, random_order
from deephash.data.protocols.five_way import FiveWay
from deephash.validation import InvalidInputError

# Of FiveWay's default sizes on 60,000 items of 10 classes with labels i mod 10, seed 0. A change of it changes the
# split of every experiment: never edit it to make a test pass.
GOLDEN = "22939f86ffc1fe8d8c9a0f2d9d18006a7878c8cbb51ea66bf5ae081524128514"

PRINT_HASH = """
import torch
from deephash.data.protocols.five_way import FiveWay
print(FiveWay().split(60000, torch.arange(60000) % 10, None, 0).hash)
"""


def slow_quotas(size, available):
    """Largest remainders in exact fractions; ties are left to the caller."""
    total = sum(available)
    shares = [Fraction(size * count, total) for count in available]
    return shares, [share.numerator // share.denominator for share in shares]


@given(available=st.lists(st.integers(0, 200), min_size=1, max_size=12), data=st.data())
def test_quotas_are_the_largest_remainders(available, data):
    total = sum(available)
    if total == 0:
        return
    size = data.draw(st.integers(0, total))
    priority = np.array(data.draw(st.permutations(range(len(available)))))
    quotas = proportional_quotas(size, np.array(available), priority)
    shares, floors = slow_quotas(size, available)
    assert quotas.sum() == size
    assert (quotas <= available).all()
    up = [bool(quota > floor) for quota, floor in zip(quotas, floors, strict=True)]
    assert all(quota - floor in (0, 1) for quota, floor in zip(quotas, floors, strict=True))
    key = [(-(share - floor), rank) for share, floor, rank in zip(shares, floors, priority, strict=True)]
    raised = [key[i] for i in range(len(key)) if up[i]]
    kept = [key[i] for i in range(len(key)) if not up[i]]
    assert not raised or not kept or max(raised) < min(kept)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(30, 120), min_size=1, max_size=8),
    fractions=st.tuples(st.floats(0.1, 0.3), st.floats(0.1, 0.3)),
    seed=st.integers(0, 2**40),
    shuffle=st.randoms(use_true_random=False),
)
def test_parts_are_disjoint_exact_and_stratified(counts, fractions, seed, shuffle):
    labels = [c for c, count in enumerate(counts) for _ in range(count)]
    shuffle.shuffle(labels)
    labels = torch.tensor(labels)
    n = len(labels)
    strata = find_strata(n, labels, True)
    sizes = {"queries": fractions[0], "database": "rest", "train": fractions[1]}
    rows = deal(sizes, strata, seed)
    assert list(rows) == list(sizes)
    assert len(rows["queries"]) == int(n * fractions[0] + 0.5)
    assert len(rows["train"]) == int(n * fractions[1] + 0.5)
    together = np.concatenate(list(rows.values()))
    assert sorted(together.tolist()) == list(range(n))
    for part in rows.values():
        assert (np.diff(part) > 0).all()
    left = np.bincount(strata)
    for part in ("queries", "train"):
        held = np.bincount(strata[rows[part]], minlength=len(counts))
        exact = len(rows[part]) * left / left.sum()
        assert (np.abs(held - exact) < 1).all()
        left = left - held
    again = deal(sizes, strata, seed)
    other = deal(sizes, strata, seed + 1)
    assert all((rows[part] == again[part]).all() for part in rows)
    assert any(not np.array_equal(rows[part], other[part]) for part in rows)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(sum),
    queries=st.integers(1, 200) | st.floats(0.001, 0.999),
    train=st.integers(1, 200) | st.floats(0.001, 0.999) | st.sampled_from(["1 per class", "9 per class"]),
    seed=st.integers(0, 100),
)
def test_any_data_is_split_or_refused_in_one_line(counts, queries, train, seed):
    labels = torch.tensor([c for c, count in enumerate(counts) for _ in range(count)])
    strata = find_strata(len(labels), labels, True)
    message = ""
    try:
        rows = deal({"queries": queries, "train": train, "database": "rest"}, strata, seed)
    except InvalidInputError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert re.search(r"; (lower|raise|set|give) ", message)
        return
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(labels)))
    present = [c for c, count in enumerate(counts) if count]
    for part in rows.values():
        assert np.unique(strata[part]).tolist() == present  # no part misses a class


def test_every_item_is_equally_likely_to_be_a_query():
    strata = np.arange(60) % 3
    times = np.zeros(60)
    for seed in range(2000):
        times[deal({"queries": 6, "database": "rest"}, strata, seed)["queries"]] += 1
    # 200 expected, standard deviation 13.4; five of them apart would be a fault.
    assert np.abs(times - 200).max() < 67


def test_no_class_is_favoured_by_rounding():
    strata = np.arange(100) % 10
    extra = np.zeros(10)
    for seed in range(400):
        rows = deal({"queries": 15, "database": "rest"}, strata, seed)["queries"]
        extra += np.bincount(strata[rows], minlength=10) - 1
    # 200 expected, standard deviation 10.
    assert np.abs(extra - 200).max() < 50


def test_first_parts_do_not_depend_on_later_sizes():
    strata = np.arange(1000) % 10
    one = deal({"queries": 100, "train": 200, "database": "rest"}, strata, 3)
    two = deal({"queries": 100, "train": 400, "database": 300}, strata, 3)
    assert (one["queries"] == two["queries"]).all()
    assert set(one["train"]) < set(two["train"])


def test_random_order_is_a_stable_permutation():
    assert random_order(6, 0).tolist() == [3, 2, 1, 0, 4, 5]
    assert sorted(random_order(1000, 5).tolist()) == list(range(1000))
    assert random_order(0, 5).tolist() == []
    assert not np.array_equal(random_order(1000, 5), random_order(1000, 6))


def test_golden_split():
    assert FiveWay().split(60000, torch.arange(60000) % 10, None, 0).hash == GOLDEN


def test_golden_split_in_another_process():
    run = subprocess.run([sys.executable, "-c", PRINT_HASH], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == GOLDEN


def test_strata_follow_single_labels_alone():
    single = torch.tensor([2, 0, 2])
    assert find_strata(3, single, True).tolist() == [2, 0, 2]
    assert find_strata(3, single, False).tolist() == [0, 0, 0]
    assert find_strata(3, torch.eye(3, dtype=torch.bool), True).tolist() == [0, 0, 0]
    assert find_strata(3, None, True).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "size", [0, -5, 0.0, 1.0, 1000.0, 1.5, -0.1, True, None, "all", "0 per class", "per class", [3]]
)
def test_sizes_refused(size):
    with pytest.raises(InvalidInputError, match=r"protocol\.train=.*whole number of at least 1.*protocol\.train=500"):
        check_size(size, "train")


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_seeds_refused(seed):
    with pytest.raises(InvalidInputError, match=r"seed=.*whole number of at least 0"):
        random_order(5, seed)


def refusal(sizes, strata, **more):
    with pytest.raises(InvalidInputError) as caught:
        deal(sizes, strata, 0, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sizes_beyond_the_data():
    message = refusal({"queries": 1000, "train": 2000, "database": "rest"}, np.zeros(500, np.int64))
    assert "queries 1000 + train 2000 = 3000 items of the 500 in the data" in message
    assert "at least 1 for database" in message
    assert "give fractions, such as protocol.train=0.1" in message
    message = refusal({"queries": 100, "train": 350, "database": "rest"}, np.zeros(450, np.int64))
    assert "protocol.train=349" in message
    deal({"queries": 100, "train": 349, "database": "rest"}, np.zeros(450, np.int64), 0)


def test_two_parts_of_rest():
    message = refusal({"train": "rest", "database": "rest"}, np.zeros(9, np.int64))
    assert message == (
        "protocol.train and protocol.database are both rest; give one a size, such as protocol.train=2000."
    )


def test_fraction_of_less_than_one_item():
    message = refusal({"queries": 0.01, "database": "rest"}, np.zeros(20, np.int64))
    assert "protocol.queries=0.01 of the 20 items in the data is less than 1 item" in message


def test_fewer_than_one_item_a_class():
    message = refusal({"queries": 5, "database": "rest"}, np.arange(100) % 10)
    assert "5 items, fewer than 1 for each of 10 classes; set protocol.queries=10" in message
    assert "protocol.stratified=false" in message


def test_class_too_small_is_named():
    strata = np.array([0] * 50 + [1] * 47 + [7] * 3)
    message = refusal({"queries": 10, "database": "rest"}, strata)
    assert "class 7 has 3 of the 100 items in the data, too few for one in protocol.queries=10" in message
    assert "protocol.stratified=false" in message


def test_size_per_class():
    strata = np.array([0] * 50 + [1] * 30 + [4] * 20)
    rows = deal({"queries": "10 per class", "database": "rest"}, strata, 0)
    assert np.bincount(strata[rows["queries"]]).tolist() == [10, 10, 0, 0, 10]
    message = refusal({"queries": "25 per class", "database": "rest"}, strata)
    assert "class 4 has 20 items left; lower it, for example to protocol.queries='20 per class'" in message
    message = refusal({"queries": "2 per class", "database": "rest"}, np.zeros(9, np.int64))
    assert "protocol.queries='2 per class' needs stratified data" in message


def test_no_items():
    assert "no items in the data" in refusal({"queries": 1, "database": "rest"}, np.zeros(0, np.int64))


def test_pool_bounds_the_deal():
    pool = np.arange(0, 100, 2)
    rows = deal({"queries": 10, "database": "rest"}, np.zeros(100, np.int64), 0, pool)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == pool.tolist()
    message = refusal({"train": 60}, np.zeros(100, np.int64), pool=pool, source="the official train part")
    assert "60 items of the 50 in the official train part" in message
