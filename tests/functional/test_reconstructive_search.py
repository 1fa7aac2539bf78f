"""The compiled coordinate search against all possible steps, tried one by one."""

import numpy as np
import pytest

from deephash.functional.reconstructive_search import ReconstructiveSearch


def problem(n=30, m=6, bits=4, pairs=80, seed=0):
    rng = np.random.default_rng(seed)
    every = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])
    chosen = every[rng.choice(len(every), pairs, replace=False)]
    # Kernel values of float32, so that the search and the plain version see the same.
    kernel = rng.normal(size=(m, n)).astype(np.float32).astype(np.float64)
    return kernel, rng.normal(size=(m, bits)), chosen, rng.random(pairs)


def plain_loss(kernel, weights, pairs, targets):
    bits = kernel.T @ weights >= 0
    hamming = (bits[pairs[:, 0]] != bits[pairs[:, 1]]).mean(1)
    return np.square(targets - hamming).mean()


def plain_best(kernel, weights, pairs, targets, bit, q):
    """The least loss over a step of one weight: one try within each interval between breakpoints."""
    breakpoints = np.sort(-(kernel.T @ weights[:, bit]) / kernel[q])
    tries = np.concatenate([[breakpoints[0] - 1], (breakpoints[1:] + breakpoints[:-1]) / 2, [breakpoints[-1] + 1]])
    losses = []
    for step in tries:
        moved = weights.copy()
        moved[q, bit] += step
        losses.append(plain_loss(kernel, moved, pairs, targets))
    return min(losses)


@pytest.mark.parametrize("seed", range(5))
def test_each_weight_gets_the_best_value_there_is(seed):
    kernel, weights, pairs, targets = problem(seed=seed)
    search = ReconstructiveSearch(kernel, weights, pairs, targets)
    assert search.loss == pytest.approx(plain_loss(kernel, weights, pairs, targets), rel=1e-5)
    fell = 0
    for bit in range(weights.shape[1]):
        for q in range(len(kernel)):
            before = search.loss
            best = plain_best(kernel, search.weights.T, pairs, targets, bit, q)
            search.descend(bit, np.array([q]))
            assert search.loss == pytest.approx(min(best, before), rel=1e-5)
            assert search.loss == pytest.approx(plain_loss(kernel, search.weights.T, pairs, targets), rel=1e-5)
            fell += search.loss < before - 1e-6
    assert fell >= 6


def test_only_the_named_weights_move():
    kernel, weights, pairs, targets = problem()
    search = ReconstructiveSearch(kernel, weights, pairs, targets)
    search.descend(1, np.array([0, 3]))
    ratio = search.weights[1] / weights[:, 1]
    assert np.allclose(ratio[[1, 2, 4, 5]], ratio[1])
    assert not np.isclose(ratio[0], ratio[1]) or not np.isclose(ratio[3], ratio[1])
    assert np.array_equal(search.weights[[0, 2, 3]], weights.T[[0, 2, 3]])


def test_breakpoints_that_coincide_are_passed_together():
    """Copies of an item have one margin, so no weight sets their bits apart."""
    kernel, weights, pairs, targets = problem(n=12, pairs=40)
    copies = np.repeat(kernel, 2, axis=1)
    between = np.array([(2 * i, 2 * i + 1) for i in range(12)])
    doubled = np.concatenate([2 * pairs, between])
    wanted = np.concatenate([targets, np.ones(12)])
    search = ReconstructiveSearch(copies, weights, doubled, wanted)
    for bit in range(4):
        search.descend(bit, np.arange(6))
    bits = copies.T @ search.weights.T >= 0
    assert np.array_equal(bits[::2], bits[1::2])
    assert search.loss == pytest.approx(plain_loss(copies, search.weights.T, doubled, wanted), rel=1e-5)


def test_an_anchor_without_effect_is_left_alone():
    kernel, weights, pairs, targets = problem()
    kernel[2] = 0
    search = ReconstructiveSearch(kernel, weights, pairs, targets)
    before = search.loss
    search.descend(0, np.array([2]))
    assert search.loss == pytest.approx(before, rel=1e-6)
