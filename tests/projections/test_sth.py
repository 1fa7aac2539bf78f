"""Self-taught hashing: its two steps against dense NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from deephash.projections.sth import STH
from deephash.validation import InvalidInputError


def features_of(n=400, d=5):
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(3, 0.5, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * spread + 4


def plain_bits(features, k, neighbours):
    """The paper's first step, dense: symmetric neighbour graph, Laplacian eigenmap, medians."""
    distances = np.square(features[:, None] - features[None]).sum(-1)
    np.fill_diagonal(distances, np.inf)
    w = np.zeros_like(distances)
    for i, row in enumerate(distances):
        w[i, np.argsort(row)[:neighbours]] = 1
    w = np.maximum(w, w.T)
    half = w.sum(1) ** -0.5
    values, vectors = np.linalg.eigh(np.eye(len(w)) - half[:, None] * w * half)
    assert values[1] > 1e-6
    functions = half[:, None] * vectors[:, 1 : k + 1]
    functions = functions * np.sign(functions[np.abs(functions).argmax(0), np.arange(k)])
    return functions > np.sort(functions, 0)[(len(w) - 1) // 2]


def test_linear_is_a_machine_for_each_bit_of_the_eigenmap():
    features = features_of()
    bits = plain_bits(features.numpy(), 4, 25)
    sth = STH(5, 4).double().fit(features)
    centred = features - features.mean(0)
    scaled = (centred / centred.square().sum(1).mean().sqrt()).numpy()
    outputs = sth(features).detach().numpy()
    for j in range(4):
        machine = LinearSVC(C=1.0, dual=False, tol=1e-9, max_iter=10**5, intercept_scaling=1e3).fit(scaled, bits[:, j])
        np.testing.assert_allclose(outputs[:, j], machine.decision_function(scaled), atol=5e-3)
    assert ((outputs >= 0) == bits).mean() > 0.8


def test_scale_and_shift_of_features_do_not_matter():
    features = features_of()
    one = STH(5, 4).double().fit(features)(features)
    other = STH(5, 4).double().fit(features * 100 - 30)(features * 100 - 30)
    assert torch.allclose(one, other, atol=1e-5)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="neighbours=0; expected a whole number of at least 1"):
        STH(5, 3, neighbours=0)
    for bad in (0, -1.0, float("nan")):
        with pytest.raises(InvalidInputError, match=f"cost={bad!r}; expected a finite number above 0"):
            STH(5, 3, cost=bad)
    with pytest.raises(InvalidInputError, match="all 9 training items are the same"):
        STH(5, 3).fit(torch.ones(9, 5))
