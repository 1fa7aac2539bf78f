"""OKH: no step if a pair keeps its bound, otherwise the smallest change that prefers the lossless codes."""

import itertools
import math

import numpy as np
import torch

from deephash.projections.online.okh import OKH, lossless_codes, pair_loss, passive_aggressive_step

GENERATOR = torch.Generator().manual_seed(0)


def pair_and_weights(m=20, k=8):
    return (
        torch.rand(2, m, generator=GENERATOR, dtype=torch.float64),
        torch.randn(m, k, generator=GENERATOR, dtype=torch.float64),
    )


def test_lossless_codes_are_the_nearest_in_margin():
    """Against every pair of codes: none without loss gives up less margin."""
    for similar in (True, False):
        for _ in range(5):
            pair, weights = pair_and_weights(k=4)
            margins = pair @ weights
            bits = margins >= 0
            distance = int((bits[0] != bits[1]).sum())
            loss = pair_loss(distance, 4, similar, 0.0, 0.75)
            if loss == 0:
                continue
            found = lossless_codes(margins, similar, loss)
            assert pair_loss(int((found[0] != found[1]).sum()), 4, similar, 0.0, 0.75) == 0

            def given_up(codes, margins=margins):
                return float((margins.abs() * (codes * margins < 0)).sum())

            every = (torch.tensor(c, dtype=torch.float64).view(2, 4) for c in itertools.product((-1, 1), repeat=8))
            lossless = [c for c in every if pair_loss(int((c[0] != c[1]).sum()), 4, similar, 0.0, 0.75) == 0]
            assert math.isclose(given_up(found), min(map(given_up, lossless)))


def test_a_pair_that_keeps_its_bound_changes_nothing():
    pair, weights = pair_and_weights()
    assert passive_aggressive_step(weights, pair[[0, 0]], True, 0.0, 0.5, 0.1) is None
    assert passive_aggressive_step(weights, torch.stack([pair[0], -pair[0]]), False, 0.0, 0.5, 0.1) is None


def test_a_step_without_bound_meets_its_constraint_exactly_and_a_bounded_one_is_shorter():
    pair, weights = pair_and_weights()
    margins = pair @ weights
    bits = margins >= 0
    loss = pair_loss(int((bits[0] != bits[1]).sum()), 8, True, 0.0, 0.5)
    step = passive_aggressive_step(weights, pair, True, 0.0, 0.5, math.inf)
    signs, wanted = torch.where(bits, 1.0, -1.0).double(), lossless_codes(margins, True, loss)
    moved = pair @ (weights + step)
    # tr(Hᵀ M) - tr(Gᵀ M) + √R = 0 after the step.
    assert abs(float(((signs - wanted) * moved).sum()) + math.sqrt(loss)) < 1e-9
    short = passive_aggressive_step(weights, pair, True, 0.0, 0.5, 1e-3)
    direction = pair.T @ (wanted - signs)
    assert torch.allclose(short, 1e-3 * direction)


def numpy_okh(kernel, labels, weights, alpha, beta, c):
    k = weights.shape[1]
    for t in range(0, len(kernel) // 2 * 2, 2):
        x = kernel[t : t + 2].T
        h = np.where(weights.T @ x >= 0, 1, -1)
        distance = (h[:, 0] != h[:, 1]).sum()
        similar = labels[t] == labels[t + 1]
        r = max(0, distance - alpha * k) if similar else max(0, beta * k - distance)
        if r == 0:
            continue
        g, margins = h.copy(), np.abs(weights.T @ x)
        candidates = [j for j in range(k) if (h[j, 0] != h[j, 1]) == similar]
        candidates.sort(key=lambda j: margins[j].min())
        for j in candidates[: math.ceil(r)]:
            g[j, margins[j].argmin()] *= -1
        gap = x @ (g - h).T
        violation = np.trace(h.T @ weights.T @ x) - np.trace(g.T @ weights.T @ x) + np.sqrt(r)
        weights = weights + min(c, violation / (gap**2).sum()) * gap
    return weights


def test_equals_a_plain_version():
    labels = torch.randint(3, (121,), generator=GENERATOR)
    features = (
        torch.randn(3, 6, generator=GENERATOR).double()[labels] + torch.randn(121, 6, generator=GENERATOR).double()
    )
    projection = OKH(6, 9, anchors=20, beta=0.4).double()
    projection.partial_fit(features[:21], labels[:21])
    start = projection.function_weights().numpy().copy()
    projection.partial_fit(features[21:], labels[21:])
    kernel = projection.kernel(features[21:]).detach().numpy()
    kernel = np.c_[kernel, np.ones(len(kernel))]
    expected = numpy_okh(kernel, labels[21:].numpy(), start, 0.0, 0.4, 0.1)
    np.testing.assert_allclose(projection.function_weights().numpy(), expected, atol=1e-9)


def test_anchors_are_no_more_than_the_first_items(tmp_path):
    projection = OKH(6, 4)
    projection.partial_fit(torch.randn(30, 6, generator=GENERATOR), torch.arange(30) % 2)
    assert projection.anchors == 30
    assert projection.directions.shape == (30, 4)
