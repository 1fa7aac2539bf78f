"""Iterative quantisation against a plain NumPy version, and its invariants."""

import numpy as np
import pytest
import torch

from deephash.functional.procrustes import random_orthogonal
from deephash.projections import itq as itq_module
from deephash.projections.itq import ITQ, iterative_quantisation
from deephash.validation import InvalidInputError


def features_of(n=600, d=24, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(0.5, -0.5, d, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) * spread
    return (features @ basis + 2).to(dtype)


def plain_itq(features, k, iterations, rotation):
    """The paper's steps, with nothing spared: PCA by SVD, codes held whole, the error summed over all entries."""
    centred = features - features.mean(0)
    right = np.linalg.svd(centred, full_matrices=False)[2][:k].T
    right = right * np.sign(right[np.abs(right).argmax(0), np.arange(k)])
    projections, errors = centred @ right, []
    for _ in range(iterations):
        codes = np.where(projections @ rotation >= 0, 1.0, -1.0)
        left, _, other = np.linalg.svd(projections.T @ codes)
        rotation = left @ other
        errors.append(np.square(codes - projections @ rotation).sum())
    return right @ rotation, errors


@pytest.mark.parametrize(("k", "iterations"), [(1, 3), (12, 1), (12, 50), (24, 20)])
def test_equal_to_plain_numpy(k, iterations):
    features = features_of()
    start = random_orthogonal(k, torch.Generator().manual_seed(7)).numpy()
    expected, errors = plain_itq(features.numpy(), k, iterations, start)
    itq = ITQ(24, k, iterations).double().fit(features, generator=torch.Generator().manual_seed(7))
    np.testing.assert_allclose(itq.directions.detach().numpy(), expected, atol=1e-8)
    np.testing.assert_allclose(itq.quantisation_errors.numpy(), errors, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_error_never_rises_and_falls_in_all(dtype):
    projections = features_of(3000, 16, dtype) - 2
    for seed in range(3):
        _, errors = iterative_quantisation(projections, 50, torch.Generator().manual_seed(seed))
        assert bool((errors.diff() <= 1e-7 * errors[0]).all())
        assert float(errors[-1]) < 0.99 * float(errors[0])


def test_rotation_stays_orthogonal_and_spans_the_principal_components():
    features = features_of(dtype=torch.float32)
    rotation, _ = iterative_quantisation(features - 2, 50, torch.Generator().manual_seed(0))
    assert torch.allclose(rotation.T @ rotation, torch.eye(24, dtype=torch.float64), atol=1e-12)
    directions = ITQ(24, 6).fit(features).directions.detach().double().numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(6), atol=1e-6)
    right = np.linalg.svd(features.double().numpy() - features.double().numpy().mean(0))[2][:6].T
    np.testing.assert_allclose(right @ (right.T @ directions), directions, atol=1e-4)


def test_compiled_kernel_and_torch_find_the_same_rotation(monkeypatch):
    projections = features_of(4001, 12, torch.float32) - 2
    plain, plain_errors = iterative_quantisation(projections, 20, torch.Generator().manual_seed(0))
    monkeypatch.setattr(itq_module, "WORTH_COMPILING", 0)
    compiled, compiled_errors = iterative_quantisation(projections, 20, torch.Generator().manual_seed(0))
    assert torch.allclose(plain_errors, compiled_errors, rtol=1e-4)
    assert float((plain - compiled).abs().max()) < 0.02


def test_variance_is_spread_over_the_bits():
    features = features_of(3000)
    variances = ITQ(24, 12).double().fit(features)(features).detach().var(0)
    assert float(variances.max() / variances.min()) < 3
    principal = torch.linalg.svdvals(features - features.mean(0))[:12].square() / len(features)
    assert float(principal.max() / principal.min()) > 6
    assert float(variances.sum()) == pytest.approx(float(principal.sum()), rel=1e-2)


def test_bad_settings_and_too_few_rows_are_refused():
    for bad in (0, -1, 2.5, True, None):
        with pytest.raises(InvalidInputError, match=f"iterations={bad!r}; expected a whole number of at least 1"):
            ITQ(24, 8, bad)
    with pytest.raises(InvalidInputError, match="25 projections exceed the 24 directions ITQ can give for d=24"):
        ITQ(24, 25)
    with pytest.raises(
        InvalidInputError, match="8 projections exceed the 7 directions in which the 8 training rows vary"
    ):
        ITQ(24, 8).fit(features_of()[:8])
    with pytest.raises(InvalidInputError, match="have 1 rows; expected at least 2"):
        ITQ(24, 8).fit(features_of()[:1])
