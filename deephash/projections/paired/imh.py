"""Inter-media hashing (Song, Yang, Yang, Huang & Shen, SIGMOD 2013)."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from deephash.affinity.laplacian_eigenmap import balanced_bits
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.leading_eigenvectors import leading_eigenvectors
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph
from deephash.functional.principal_components import canonical_signs
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.standardised_views import standardise_views
from deephash.validation import InvalidInputError, check_count, check_directions, check_positive

# The eigenvalues of ZZᵀ are at most 1 for each view, so no eigenvalue of the problem is below -2.
BELOW = 2.0


def ridge_roots(rows: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Decompose a ridge regression on rows: Z with Z Zᵀ = X (XᵀX + n β I)⁻¹ Xᵀ, and T with Z = X T.

    The residual of a regression of values Y is Yᵀ (I - Z Zᵀ) Y, and its weights are T Zᵀ Y.

    Args:
        rows: X, float64 (n, d), centred.
        ridge: β.

    Returns:
        Z (n, d) and T (d, d).
    """
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    root = vectors / (values.clamp_min(0) + ridge * len(rows)).sqrt()
    return rows @ root, root


def graph_laplacian(neighbours: list[Tensor]) -> Any:
    """Compute the sum of D - W over views, where W joins an item to its neighbours in the view; SciPy CSC (n, n)."""
    from scipy.sparse import dia_array

    graph = sum(symmetric_graph(nearest) for nearest in neighbours)
    degrees = np.asarray(graph.sum(1)).ravel()  # type: ignore[union-attr]
    return (dia_array((degrees[None], [0]), shape=graph.shape) - graph).tocsc()  # type: ignore[union-attr]


def consistent_values(laplacian: Any, regressions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k orthonormal vectors y of mean 0 that minimise yᵀ (λL - Z Zᵀ) y.

    Lanczos's method runs on the inverse of λL + 2 - Z Zᵀ, which is positive definite. This matrix is sparse except for
    a part of low rank, so that a sparse factorisation and Woodbury's identity invert it.

    Args:
        laplacian: λL, sparse (n, n).
        regressions: Z of all views side by side, float64 (n, m), of mean 0.
        k: number of vectors, at most n - 2.

    Returns:
        Values (k,), increasing, and vectors (n, k).
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import splu

    n = len(regressions)
    factored = splu(
        (laplacian + BELOW * eye_array(n)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved = factored.solve(regressions)
    inner = cho_factor(np.eye(regressions.shape[1]) - regressions.T @ solved)

    def multiply(vector: np.ndarray) -> np.ndarray:
        # The constant vector costs nothing and separates no items. Centring gives it the value 0, the smallest here.
        centred = vector - vector.mean()
        product: np.ndarray = factored.solve(centred) + solved @ cho_solve(inner, solved.T @ centred)
        return product

    start = np.random.default_rng(0).standard_normal(n)
    inverse, vectors = leading_eigenvectors(multiply, start - start.mean(), k)
    return 1 / inverse - BELOW, vectors


@final
class IMH(PairedProjection):
    """Inter-media hashing: learns values that near items share in either view and that pairs have in common.

    One eigenproblem combines two aims: values should vary little over the graphs of nearest neighbours in each view,
    and linear regressions on the features of each view should predict them. The bits are the predictions, cut at their
    medians.
    Known weakness: later values vary over smaller and smaller parts of the graphs, which no linear function of few
    features can follow; graphs assume that items with near features are similar. The eigenproblem grows with the number
    of pairs, so a sample is used if there are many.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k, at most the number of pairs minus 2.
        neighbours: number of nearest neighbours that an item is joined to in each view. One neighbour already connects
            the pairs of Wiki, because the edges of the views differ; with more, the bits beyond the first 20 were worse
            on held-out pairs.
        smoothness: λ, weight of the graphs against the regressions, for views scaled to unit total variance; chosen on
            held-out pairs of Wiki, where all values of at least 10 give similar results.
        regularisation: β, ridge of the regressions, in units of a view's total variance; chosen in the same way.
        most_pairs: maximum number of training pairs to fit on; more are sampled at random.

    Attributes:
        costs: float64 (k,), cost of each value in the eigenproblem: λ times its variation over the graphs, minus the
            shares that the two regressions explain.
        learnt_codes: bool (n, k), the values of the training pairs, cut at their medians; None if pairs were sampled.

    Raises:
        InvalidInputError: a setting is out of range; in `fit`, there are more projections than n - 2, no more pairs
            than neighbours, or a view that does not vary.

    References:
        Song, Yang, Yang, Huang & Shen, "Inter-media hashing for large-scale retrieval from heterogeneous data
        sources", SIGMOD 2013; here every training item has both views and one value for both.
    """

    minimum_rows: ClassVar[int] = 3
    samples_rows: ClassVar[bool] = True

    costs: Tensor

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        neighbours: int = 1,
        smoothness: float = 100.0,
        regularisation: float = 0.01,
        most_pairs: int = 8192,
    ) -> None:
        super().__init__(input_dims, output_dim)
        check_count(neighbours, "neighbours")
        check_positive(smoothness, "smoothness")
        check_positive(regularisation, "regularisation")
        check_count(most_pairs, "most_pairs")
        self.neighbours = neighbours
        self.smoothness = smoothness
        self.regularisation = regularisation
        self.most_pairs = most_pairs
        self.register_buffer("costs", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        total = len(next(iter(views.values())))
        if total > self.most_pairs:
            drawn = torch.randperm(total, generator=generator)[: self.most_pairs]
            views = {name: rows[drawn.to(rows.device)] for name, rows in views.items()}
        n = min(total, self.most_pairs)
        check_directions(self.output_dim, n - 2, f"of the graph of {n} training pairs")
        if self.neighbours >= n:
            raise InvalidInputError(
                f"neighbours={self.neighbours} of {n} training pairs; lower it, or give more pairs."
            )
        standardised = standardise_views(views)
        roots = {name: ridge_roots(view.items, self.regularisation) for name, view in standardised.items()}
        laplacian = graph_laplacian([nearest_neighbours(v.items, self.neighbours) for v in standardised.values()])
        explained = torch.cat([z for z, _ in roots.values()], 1)
        costs, vectors = consistent_values(self.smoothness * laplacian, explained.cpu().numpy(), self.output_dim)
        values = canonical_signs(torch.from_numpy(vectors)).to(explained)
        for name, (z, root) in roots.items():
            directions = root @ (z.T @ values)
            view = standardised[name]
            medians = (view.items @ directions).median(0).values
            self.view(name).set_weights(view.mean, directions / view.scale, -medians)
        self.costs.copy_(torch.from_numpy(costs))
        self.learnt_codes = balanced_bits(values) if n == total else None
