"""AdaptHash: gradient steps for the wrong bits with the largest margins, as many as are needed."""

import math

import numpy as np
import torch

from deephash.projections.online.adapthash import AdaptHash, bits_to_move, pair_gradient

GENERATOR = torch.Generator().manual_seed(0)


def test_moved_bits_are_wrong_ones_as_many_as_are_missing_and_the_most_decided():
    margins = torch.tensor([[1.0, -2, 3, 4, -5, 0.5], [2.0, 1, -1, 6, -1, 0.1]])
    # They differ in bits 1 and 2. Similar pairs may differ in (1 - .9) · 6 = .6 bits: 1.4 too many.
    assert bits_to_move(margins, True, 0.9).tolist() == [2, 1]
    # Others must differ in 3: one more, that with the largest margin of bits 0, 3, 4, 5.
    assert bits_to_move(margins, False, 0.5).tolist() == [3]
    assert bits_to_move(margins, False, 1 / 3).tolist() == []
    assert bits_to_move(margins[[0, 0]], True, 0.9).tolist() == []


def test_gradient_is_that_of_the_smooth_loss():
    pair = torch.randn(2, 7, generator=GENERATOR, dtype=torch.float64)
    weights = torch.randn(7, 5, generator=GENERATOR, dtype=torch.float64).requires_grad_()
    soft = 2 * torch.sigmoid(pair @ weights) - 1
    ((soft[0] @ soft[1]) - 5 * 1.0).square().backward()
    found = pair_gradient(weights.detach(), pair, True, torch.tensor([0, 3]))
    assert torch.allclose(found[:, [0, 3]], weights.grad[:, [0, 3]])
    assert not bool(found[:, [1, 2, 4]].any())


def numpy_adapthash(x, labels, w, alpha, regularisation, step):
    k = w.shape[1]
    for t in range(0, len(x) // 2 * 2, 2):
        a, b = x[t], x[t + 1]
        u, v = w.T @ a, w.T @ b
        differ = (u >= 0) != (v >= 0)
        s = 1 if labels[t] == labels[t + 1] else -1
        missing = differ.sum() - (1 - alpha) * k if s == 1 else alpha * k - differ.sum()
        if missing <= 1e-9:
            continue
        wrong = np.flatnonzero(differ if s == 1 else ~differ)
        wrong = wrong[np.argsort(-np.maximum(abs(u), abs(v))[wrong], kind="stable")][: math.ceil(missing - 1e-9)]
        fu, fv = 2 / (1 + np.exp(-u)) - 1, 2 / (1 + np.exp(-v)) - 1
        du, dv = 2 * np.exp(-u) / (1 + np.exp(-u)) ** 2, 2 * np.exp(-v) / (1 + np.exp(-v)) ** 2
        gradient = 2 * (fu @ fv - k * s) * (np.outer(a, fv * du) + np.outer(b, fu * dv))
        change = np.zeros_like(w)
        change[:, wrong] = step * gradient[:, wrong]
        w = w - change - regularisation * w @ (w.T @ w - np.eye(k))
        w = w / np.linalg.norm(w, axis=0)
    return w


def test_equals_a_plain_version_and_directions_keep_their_length():
    labels = torch.randint(3, (160,), generator=GENERATOR)
    features = (
        torch.randn(3, 6, generator=GENERATOR).double()[labels] + torch.randn(160, 6, generator=GENERATOR).double()
    )
    projection = AdaptHash(6, 9).double()
    projection.partial_fit(features[:20], labels[:20])
    start, mean = projection.directions.detach().numpy().copy(), projection.mean.numpy()
    projection.partial_fit(features[20:], labels[20:])
    x = features[20:].numpy() - mean
    expected = numpy_adapthash(x / np.linalg.norm(x, axis=1, keepdims=True), labels[20:].numpy(), start, 0.9, 0.01, 1.0)
    np.testing.assert_allclose(projection.directions.detach().numpy(), expected, atol=1e-9)
    assert torch.allclose(projection.directions.norm(dim=0), torch.ones(9, dtype=torch.float64))
