"""Leading eigenvectors equal those of a dense decomposition, also if eigenvalues repeat."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from deephash.functional.leading_eigenvectors import leading_eigenvectors


def make_operator(values, seed=0):
    """A symmetric matrix with these eigenvalues, and a first vector."""
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(generator.standard_normal((len(values), len(values))))
    return (basis * values) @ basis.T, generator.standard_normal(len(values))


@pytest.mark.parametrize("k", [1, 6, 40])
def test_they_equal_those_of_a_dense_decomposition(k):
    matrix, start = make_operator(np.arange(60.0) - 20)
    values, vectors = leading_eigenvectors(matrix.__matmul__, start, k)
    assert np.allclose(values, 39 - np.arange(k))
    assert np.allclose(matrix @ vectors, values * vectors, atol=1e-6)
    assert np.allclose(vectors.T @ vectors, np.eye(k), atol=1e-8)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("distinct", [2, 3, 5])
def test_repeated_values_exhaust_no_basis(distinct, seed):
    """As of items that repeat each other: a Krylov space has a single vector of each eigenspace."""
    values = np.concatenate([np.full(60 - distinct + 1, 0.005), 10.0 + np.arange(distinct - 1)])
    matrix, start = make_operator(values, seed)
    found, vectors = leading_eigenvectors(matrix.__matmul__, start, 6)
    assert np.allclose(found, np.sort(values)[::-1][:6], atol=1e-6)
    assert np.allclose(vectors.T @ vectors, np.eye(6), atol=1e-6)


def test_an_exhausted_basis_is_doubled(monkeypatch):
    sizes = []
    original = scipy.sparse.linalg.eigsh

    def refuse_small(*given, ncv, **settings):
        sizes.append(ncv)
        if ncv < 50:
            raise scipy.sparse.linalg.ArpackError(3)
        return original(*given, ncv=ncv, **settings)

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", refuse_small)
    matrix, start = make_operator(np.arange(60.0))
    values, _ = leading_eigenvectors(matrix.__matmul__, start, 3)
    assert np.allclose(values, [59, 58, 57])
    assert sizes == [20, 40, 60]


def test_a_failure_of_the_largest_basis_is_a_linear_algebra_error(monkeypatch):
    def refuse(*given, **settings):
        raise scipy.sparse.linalg.ArpackError(3)

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", refuse)
    matrix, start = make_operator(np.arange(60.0))
    with pytest.raises(torch.linalg.LinAlgError, match="ARPACK error 3"):
        leading_eigenvectors(matrix.__matmul__, start, 3)
