"""Eigenvectors of the largest eigenvalues of a symmetric operator, by Lanczos' method."""

from collections.abc import Callable

import numpy as np
import torch

from deephash.functional.single_thread import single_thread


def leading_eigenvectors(
    multiply: Callable[[np.ndarray], np.ndarray], start: np.ndarray, k: int, basis: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k largest eigenvalues of a symmetric operator, and their eigenvectors.

    If items repeat each other, eigenvalues do too, and a small basis can then be exhausted before it holds k vectors.
    In this case the basis is doubled, up to all n dimensions.

    Args:
        multiply: function that multiplies a vector (n,) by the operator.
        start: first vector of the basis, float64 (n,).
        k: number of vectors, below n.
        basis: number of vectors of the basis, if 2 k + 1 is lower; a larger one needs more memory and fewer steps.

    Returns:
        Values (k,), decreasing, and vectors float64 (n, k).

    Raises:
        torch.linalg.LinAlgError: a basis of all n dimensions does not suffice.
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    n = len(start)
    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    basis = min(n, max(2 * k + 1, basis))
    # One thread is many times faster, because threads that share short vectors wait for each other.
    with single_thread():
        while True:
            try:
                values, vectors = eigsh(operator, k=k, which="LA", v0=start, ncv=basis)
            except ArpackError as error:
                if basis == n:
                    raise torch.linalg.LinAlgError(str(error)) from error  # type: ignore[attr-defined]
                basis = min(n, 2 * basis)
            else:
                order = np.argsort(-values, kind="stable")
                return values[order], vectors[:, order]
