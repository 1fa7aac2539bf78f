"""Inter-media hashing (Song, Yang, Yang, Huang & Shen, SIGMOD 2013)."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.laplacian_eigenmap import balanced_bits
from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.neighbour_graph import nearest_neighbours, symmetric_graph
from deephash.functional.principal_components import canonical_signs, feature_mean, root_mean_square
from deephash.functional.single_thread import single_thread
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, check_count, check_directions, check_positive

# ZZᵀ of each view is at most 1, so that nothing lies below -2 in the spectrum of the problem.
BELOW = 2.0


def regression(rows: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Ridge regression on rows, as Z with Z Zᵀ = X (XᵀX + n β I)⁻¹ Xᵀ, and T with Z = X T.

    What a regression leaves of values Y is Yᵀ (I - Z Zᵀ) Y, and its weights are T Zᵀ Y.

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
    """Sum over views of D - W, W joining an item to its neighbours in the view; SciPy CSC (n, n)."""
    from scipy.sparse import dia_array

    graph = sum(symmetric_graph(of_view) for of_view in neighbours)
    degrees = np.asarray(graph.sum(1)).ravel()  # type: ignore[union-attr]
    return (dia_array((degrees[None], [0]), shape=graph.shape) - graph).tocsc()  # type: ignore[union-attr]


def consistent_values(laplacian: Any, regressions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k vectors y, orthonormal and of mean 0, that minimise yᵀ (λL - Z Zᵀ) y.

    By Lanczos' method on the inverse of λL + 2 - Z Zᵀ, which is positive: sparse but for a matrix of low rank, so a
    sparse factorisation and Woodbury's identity invert it.

    Args:
        laplacian: λL, sparse (n, n).
        regressions: Z of all views side by side, float64 (n, m), of mean 0.
        k: number of vectors, at most n - 2.

    Returns:
        Values (k,), rising, and vectors (n, k).
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import LinearOperator, eigsh, splu

    n = len(regressions)
    factored = splu(
        (laplacian + BELOW * eye_array(n)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved = factored.solve(regressions)
    inner = cho_factor(np.eye(regressions.shape[1]) - regressions.T @ solved)

    def times(vector: np.ndarray) -> np.ndarray:
        # The constant vector has no cost and tells no items apart: without it, its value here is 0, the least.
        centred = vector - vector.mean()
        product: np.ndarray = factored.solve(centred) + solved @ cho_solve(inner, solved.T @ centred)
        return product

    start = np.random.default_rng(0).standard_normal(n)
    with single_thread():
        inverse, vectors = eigsh(
            LinearOperator((n, n), matvec=times, dtype=np.float64),
            k=k,
            which="LA",
            v0=start - start.mean(),
            ncv=min(n, max(2 * k + 1, 20)),
        )
    order = np.argsort(-inverse, kind="stable")
    return 1 / inverse[order] - BELOW, vectors[:, order]


@final
class IMH(PairedProjection):
    """Values that near items share in either view and a pair has in common, and linear regressions of them.

    One eigenproblem weighs both: values that vary little over the graphs of nearest neighbours in each view, and that
    each view's features can predict. Bits are the predictions, cut at their medians.
    Known weakness: the later values vary over ever smaller parts of the graphs, which no linear function of few
    features can follow; and graphs of features take near items for alike, be they or not. The eigenproblem is in the
    number of pairs, so that a sample of many is fitted on.

    Shape:
        features (n, d of the view) → projections (n, k).

    Args:
        input_dims: feature dimension of each view by its name.
        output_dim: number of projections k, at most the number of pairs less 2.
        neighbours: nearest neighbours that an item is joined to in each view. One joins the pairs of Wiki already, as
            the views' edges differ, and with more the bits beyond the first 20 came out worse on held-out pairs.
        smoothness: λ, of the graphs against the regressions, for views scaled to unit total variance; chosen on
            held-out pairs of Wiki, where 10 or more are much alike.
        regularisation: β, ridge of the regressions, in units of a view's total variance; chosen in the same way.
        most_pairs: most training pairs to fit on; of more, as many are drawn at random.

    Attributes:
        costs: float64 (k,), of each value in the eigenproblem: λ times its variation over the graphs, less the shares
            of it that the two regressions explain.
        learnt_codes: bool (n, k), the training pairs' own values, cut at their medians; None where pairs were drawn.

    Raises:
        InvalidInputError: a setting out of its range; in `fit`, more projections than n - 2, no more pairs than
            neighbours, or a view in which nothing varies.

    References:
        Song, Yang, Yang, Huang & Shen, "Inter-media hashing for large-scale retrieval from heterogeneous data
        sources", SIGMOD 2013; here every training item has both views, whose values are the same.
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
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})
        self.register_buffer("costs", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
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
        means = {name: feature_mean(rows) for name, rows in views.items()}
        scaled, scales = {}, {}
        for name, rows in views.items():
            scales[name] = root_mean_square(rows, means[name])
            if scales[name] == 0:
                raise InvalidInputError(f"all {n} training items are the same in {name}; give data that vary.")
            scaled[name] = (rows.double() - means[name]) / scales[name]
        roots = {name: regression(rows, self.regularisation) for name, rows in scaled.items()}
        laplacian = graph_laplacian([nearest_neighbours(rows, self.neighbours) for rows in scaled.values()])
        explained = torch.cat([z for z, _ in roots.values()], 1)
        costs, vectors = consistent_values(self.smoothness * laplacian, explained.cpu().numpy(), self.output_dim)
        values = canonical_signs(torch.from_numpy(vectors)).to(explained)
        for name, (z, root) in roots.items():
            directions = root @ (z.T @ values)
            predicted = scaled[name] @ directions
            self.view(name).set(means[name], directions / scales[name], -predicted.median(0).values)
        self.costs.copy_(torch.from_numpy(costs))
        self.learnt_codes = balanced_bits(values) if n == total else None
