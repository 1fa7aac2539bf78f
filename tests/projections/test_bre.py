"""Binary reconstructive embeddings of distances: the loss as the paper writes it, its descent, its pairs."""

import numpy as np
import pytest
import torch

from deephash.projections.bre import BRE, pair_with_near_and_random, scale_to_unit_range
from deephash.projections.reconstructive_embedding import distinct_pairs, reconstruct_distances
from deephash.validation import InvalidInputError


def features_of(n=150, d=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(2, 0.5, d, dtype=torch.float64)
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) * spread + 3).to(dtype)


def plain_descent(kernel, weights, order, pairs, targets):
    """Coordinate descent that tries a value in every interval between breakpoints and computes the loss again."""

    def loss_of(weights):
        bits = kernel @ weights >= 0
        return np.square(targets - (bits[pairs[:, 0]] != bits[pairs[:, 1]]).mean(1)).sum()

    for bit, q in order:
        breakpoints = np.sort(-(kernel @ weights[:, bit]) / kernel[:, q])
        middles = (breakpoints[1:] + breakpoints[:-1]) / 2
        steps = np.concatenate([[0.0], [breakpoints[0] - 1], middles, [breakpoints[-1] + 1]])
        tried = np.repeat(weights[None], len(steps), 0)
        tried[:, q, bit] += steps
        weights = min(tried, key=loss_of)
    return loss_of(weights) / len(pairs)


def test_agrees_with_plain_coordinate_descent():
    """The same draws give the same loss, up to ties between steps of equal loss, which one sweep shows little of."""
    generator = torch.Generator().manual_seed(4)
    kernel = torch.randn(25, 5, generator=generator).double()
    pairs = distinct_pairs(torch.randint(25, (80, 2), generator=generator))
    targets = torch.rand(len(pairs), generator=generator)
    _, losses = reconstruct_distances(kernel, pairs, targets, 2, 5, 1, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    chosen = [torch.randperm(5, generator=draws) for _ in range(2)]
    start = torch.zeros(5, 2, dtype=torch.float64)
    for bit in range(2):
        start[chosen[bit], bit] = torch.randn(5, generator=draws, dtype=torch.float64)
    order = [(bit, int(q)) for bit in range(2) for q in chosen[bit][torch.randperm(5, generator=draws)]]
    expected = plain_descent(kernel.numpy(), start.numpy(), order, pairs.numpy(), targets.double().numpy())
    assert float(losses[-1]) == pytest.approx(expected, rel=0.02)
    assert float(losses[-1]) < 0.9 * float(losses[0])


def test_loss_is_the_paper_s_and_never_rises():
    features = features_of()
    for seed in range(3):
        method = BRE(8, 12, anchors=40, points=10, near=10, far=10, sweeps=6).double()
        losses = method.fit(features, generator=torch.Generator().manual_seed(seed)).losses
        assert bool((losses.diff() <= 1e-9).all())
        assert float(losses[-1]) < 0.6 * float(losses[0])


def test_hamming_distances_follow_the_features():
    features = features_of(400)
    method = BRE(8, 64, near=20, far=20).double().fit(features)
    bits = method(features).detach() >= 0
    hamming = (bits[:, None] != bits[None]).double().mean(2)
    wanted = torch.cdist(scale_to_unit_range(features), scale_to_unit_range(features)).square() / 2
    upper = torch.triu(torch.ones(400, 400, dtype=torch.bool), 1)
    correlation = torch.corrcoef(torch.stack([hamming[upper], wanted[upper]]))[0, 1]
    assert float(correlation) > 0.9
    # The published loss over the pairs learnt from, seen again in the codes of the module.
    assert float((hamming - wanted)[upper].square().mean()) < 3 * float(method.losses[-1])


def test_scaled_distances_fill_the_scale_to_unit_range():
    scaled = scale_to_unit_range(features_of())
    distances = torch.cdist(scaled, scaled).square() / 2
    assert 0.9 < float(distances.max()) <= 1 + 1e-12
    assert float(distances.mean()) == pytest.approx(0.5, abs=0.05)
    assert torch.allclose(scale_to_unit_range(5 * features_of() + 7), scaled)


def test_pairs_hold_the_nearest_and_are_distinct():
    features = features_of(60)
    pairs = pair_with_near_and_random(features, 4, 3, torch.Generator().manual_seed(0))
    listed = {tuple(pair) for pair in pairs.tolist()}
    assert len(listed) == len(pairs)
    assert all(i < j for i, j in listed)
    nearest = torch.cdist(features, features).topk(5, 1, largest=False).indices[:, 1:]
    assert all((min(i, j), max(i, j)) in listed for i, row in enumerate(nearest.tolist()) for j in row)
    assert 60 * 4 / 2 < len(pairs) <= 60 * 7


def test_a_hash_function_has_its_own_points():
    method = BRE(8, 9, anchors=40, points=5).double().fit(features_of())
    used = method.weights.detach() != 0
    assert bool((used.sum(0) <= 5).all())
    assert len({tuple(column) for column in used.T.tolist()}) > 5


def test_few_items_and_many():
    tiny = BRE(8, 4).double().fit(features_of(2))
    assert tiny.weights.shape == (2, 4)
    many = BRE(8, 4, anchors=20, training_items=30).double()
    assert many.fit(features_of(200)).mean.shape == (20,)
    assert many(features_of(200)).shape == (200, 4)


def test_bad_settings_are_refused():
    for name in ("anchors", "points", "near", "far", "sweeps", "training_items"):
        for bad in (0, 2.5):
            with pytest.raises(InvalidInputError, match=f"{name}={bad!r}; expected a whole number of at least 1"):
                BRE(8, 4, **{name: bad})
    with pytest.raises(InvalidInputError, match="all 5 training items are the same"):
        BRE(8, 4).fit(features_of(1).expand(5, 8).float())
