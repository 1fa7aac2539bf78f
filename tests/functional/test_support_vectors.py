"""Support vector machines of many bits at once, against scikit-learn's one at a time."""

import numpy as np
import pytest
import torch
from sklearn.svm import SVC, LinearSVC

from deephash.functional.support_vectors import linear_svm, rbf_svm


def data_of(n=400, d=10, b=6, dtype=torch.float64, noise=1.0):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 3, d)
    directions = torch.randn(d, b, generator=generator, dtype=torch.float64)
    bits = features @ directions + noise * torch.randn(n, b, generator=generator, dtype=torch.float64) >= 0.5
    return features.to(dtype) + 3, bits


def squared_hinge(features, targets, weights, bias, cost):
    slack = np.maximum(0, 1 - targets * (features @ weights + bias))
    return 0.5 * weights @ weights + cost * np.square(slack).sum()


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_linear_reaches_the_minimum_that_liblinear_finds(cost, noise):
    features, bits = data_of(noise=noise)
    weights, bias = linear_svm(features, bits, cost)
    for j in range(bits.shape[1]):
        # A large intercept scale leaves the bias all but free there too.
        other = LinearSVC(C=cost, dual=False, tol=1e-9, max_iter=100_000, intercept_scaling=1e3)
        other.fit(features.numpy(), bits[:, j].numpy())
        targets = np.where(bits[:, j].numpy(), 1, -1)
        ours = squared_hinge(features.numpy(), targets, weights[:, j].numpy(), float(bias[j]), cost)
        theirs = squared_hinge(features.numpy(), targets, other.coef_[0], other.intercept_[0], cost)
        assert ours <= theirs * (1 + 1e-9)
        np.testing.assert_allclose(weights[:, j].numpy(), other.coef_[0], rtol=1e-2, atol=1e-3)


def test_linear_gradient_is_zero_at_the_end():
    features, bits = data_of(dtype=torch.float32, n=3000)
    weights, bias = (tensor.double().requires_grad_() for tensor in linear_svm(features, bits, 1.0))
    targets = bits.double() * 2 - 1
    slack = (1 - targets * (features.double() @ weights + bias)).clamp_min(0)
    (weights.square().sum() / 2 + slack.square().sum()).backward()
    at_zero = 2 * (features.double().T @ targets).abs().max()
    assert float(weights.grad.abs().max()) < 1e-3 * float(at_zero)
    assert float(bias.grad.abs().max()) < 1e-3 * float(at_zero)


def test_linear_depends_neither_on_the_order_of_rows_nor_on_other_bits():
    features, bits = data_of()
    weights, bias = linear_svm(features, bits, 1.0)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(1))
    others, other_bias = linear_svm(features[order], bits[order], 1.0)
    assert torch.allclose(weights, others, atol=1e-7)
    assert torch.allclose(bias, other_bias, atol=1e-7)
    alone, _ = linear_svm(features, bits[:, 2:3], 1.0)
    assert torch.allclose(weights[:, 2:3], alone, atol=1e-7)


def test_rbf_decides_as_an_svm_with_its_own_kernel():
    features, bits = data_of(n=200)
    dual, bias = rbf_svm(features, bits, 2.0, 1.5)
    queries = data_of(n=250)[0]
    kernel = torch.exp(-torch.cdist(queries, features).square() / (2 * 1.5**2))
    for j in range(bits.shape[1]):
        other = SVC(C=2.0, gamma=1 / (2 * 1.5**2)).fit(features.numpy(), bits[:, j].numpy())
        np.testing.assert_allclose(
            (kernel @ dual[:, j] + bias[j]).numpy(), other.decision_function(queries.numpy()), atol=2e-3
        )
    assert float((dual.abs() > 2.0 + 1e-9).sum()) == 0
    assert torch.allclose(dual.sum(0), torch.zeros(6, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("solve", [lambda f, b: linear_svm(f, b, 1.0), lambda f, b: rbf_svm(f, b, 1.0, 1.0)])
def test_constant_bits_keep_their_value(solve):
    features, bits = data_of(n=100, dtype=torch.float32)
    bits[:, 1], bits[:, 3] = True, False
    weights, bias = solve(features, bits)
    assert weights.dtype == bias.dtype == torch.float32
    assert not bool(weights[:, [1, 3]].any())
    assert bias[[1, 3]].tolist() == [1, -1]
    assert bool(weights[:, [0, 2, 4, 5]].any(0).all())
    alone, signs = solve(features, bits[:, [1, 3]])
    assert not bool(alone.any())
    assert signs.tolist() == [1, -1]
