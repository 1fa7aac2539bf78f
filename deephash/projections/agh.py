"""Anchor graph hashing (Liu, Wang, Kumar & Chang, ICML 2011)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.anchors import anchor_graph_weights, kmeans_anchors
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import canonical_signs
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_directions

# Smaller eigenvalues are rounding errors: their eigenvectors, divided by the root, would be noise.
MIN_EIGENVALUE = 1e-10
# Smaller entries of an eigenvector are rounding errors and set to 0, as on a disconnected part of the graph.
MIN_ENTRY = 1e-12


def anchor_weights(features: Tensor, anchors: Tensor, bandwidth: Tensor, s: int) -> tuple[Tensor, Tensor]:
    """Rows of Z (Eq. 2): exp(-‖x - u‖² / σ²) for the s nearest anchors u, divided by their sum.

    ‖x‖² is left out, because it changes neither the choice of anchors nor the weights.

    Args:
        features: floating (n, d).
        anchors: (m, d), m >= s.
        bandwidth: σ, a scalar above 0.
        s: anchors per row.

    Returns:
        Weights (n, s) that sum to 1, differentiable in features, anchors and bandwidth; and anchor indices,
        int64 (n, s).
    """
    origin = anchors.detach().mean(0)
    relative = anchors - origin
    closeness = 2 * project_centred(features, origin, relative.T) - relative.square().sum(1)
    nearest, ids = closeness.topk(s, sorted=False)
    return torch.softmax(nearest / bandwidth.square(), 1), ids


def anchor_graph_spectrum(weights: Tensor, ids: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Compute the eigenfunctions of the anchor graph A = Z Λ⁻¹ Zᵀ as maps of Z, with Λ = diag(Zᵀ 1) (section 3.2).

    The eigenvectors of A are √n Z W with W = Λ^(-1/2) V Σ^(-1/2), where V are the eigenvectors of the small matrix
    Λ^(-1/2) Zᵀ Z Λ^(-1/2). The trivial eigenvector of A, which is constant, is removed before the decomposition: if the
    graph is disconnected, other eigenvectors share its eigenvalue 1.

    Args:
        weights: weights in Z, floating (n, s).
        ids: columns of these weights in Z, int64 (n, s).
        m: number of anchors.

    Returns:
        √n W float64 (m, r), the largest entry of each column positive, and the eigenvalues float64 (r,), descending.
    """
    s = ids.shape[1]
    shares = weights.double()
    gram = torch.zeros(m * m, dtype=torch.float64, device=weights.device)
    for i in range(s):
        for j in range(s):
            gram.index_add_(0, ids[:, i] * m + ids[:, j], shares[:, i] * shares[:, j])
    degrees = torch.zeros(m, dtype=torch.float64, device=weights.device)
    degrees.index_add_(0, ids.flatten(), shares.flatten())
    gram, degrees = sum_over_processes(gram), sum_over_processes(degrees)
    # An anchor that no row is joined to has a row and a column of zeros.
    scale = torch.where(degrees > 0, degrees.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0)
    trivial = degrees.sqrt() / degrees.sum().sqrt()
    small = scale[:, None] * gram.view(m, m) * scale - torch.outer(trivial, trivial)
    eigenvalues, vectors = torch.linalg.eigh(small)
    eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    vectors = torch.where(vectors.abs() < MIN_ENTRY, 0, vectors)
    kept = eigenvalues > MIN_EIGENVALUE
    eigenvalues, maps = (
        eigenvalues[kept],
        scale[:, None] * vectors[:, kept] * eigenvalues[kept].rsqrt() * count_rows(ids) ** 0.5,
    )
    return canonical_signs(maps), eigenvalues


@final
class AGH(Projection):
    """Anchor graph hashing: learns the smoothest functions on a graph that links all items through a few anchors.

    Each item is joined to its s nearest anchors, and two items are similar if they share anchors. Projections are the
    eigenvectors of this graph after the trivial one. New items are projected through their own anchors. With `SBQ` this
    is the one-layer method of the paper, which thresholds at 0. With `HQ` it is the two-layer method, which uses half
    as many eigenvectors and cuts each side of 0 a second time.
    Known weakness: later eigenvectors vary fast and carry less information, so longer codes soon stop improving. If
    clusters are so far apart that no item joins two of them, most eigenvectors are 0 on all clusters but one. An item
    far from all anchors is encoded as if it were near some of them.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, less than the number of anchors.
        anchors: number of k-means anchors m; 300 as in the paper. `fit` lowers it if there are fewer rows.
        nearest: number of anchors s that an item is joined to; 2 as in the paper.

    Raises:
        InvalidInputError: anchors or nearest is below 1, nearest exceeds anchors, or projections are not fewer than
            anchors; in `fit`, all rows are the same, or there are fewer eigenvectors than projections.

    References:
        Liu, Wang, Kumar & Chang, "Hashing with graphs", ICML 2011, sections 3 and 4. The width of the kernel, the mean
        distance between an item and its s-th nearest anchor, follows the authors' code.
    """

    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True
    fits_on_shares: ClassVar[bool] = True

    def __init__(self, input_dim: int, output_dim: int, anchors: int = 300, nearest: int = 2) -> None:
        super().__init__(input_dim, output_dim)
        check_count(anchors, "anchors")
        check_count(nearest, "nearest")
        if nearest > anchors:
            raise InvalidInputError(f"nearest={nearest} exceeds anchors={anchors}; lower nearest or raise anchors.")
        check_directions(output_dim, anchors - 1, f"of a graph with {anchors} anchors")
        self.anchors = anchors
        self.nearest = nearest
        self.centres = nn.Parameter(torch.zeros(anchors, input_dim))
        self.bandwidth = nn.Parameter(torch.ones(()))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """Z(X) W: the values of an item's anchors, weighted by Z."""
        shares, ids = anchor_weights(features, self.centres, self.bandwidth, self.nearest)
        return torch.einsum("ns,nsk->nk", shares, self.weights[ids])

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        n = count_rows(features)
        anchors = min(self.anchors, n)
        check_directions(self.output_dim, anchors - 1, f"of a graph with {anchors} anchors")
        nearest = min(self.nearest, anchors)
        centres = kmeans_anchors(features, anchors, generator).to(self.centres)
        shares, ids, bandwidth = anchor_graph_weights(features, centres, nearest)
        if bandwidth == 0:
            raise InvalidInputError(
                f"all {n} training items lie on their anchors, so the graph has no width; give more rows "
                "that differ, or fewer anchors."
            )
        weights, eigenvalues = anchor_graph_spectrum(shares, ids, anchors)
        check_directions(self.output_dim, len(eigenvalues), f"of the graph of {n} training rows")
        self.anchors, self.nearest = anchors, nearest
        self.centres, self.weights = nn.Parameter(centres), nn.Parameter(weights[:, : self.output_dim].to(centres))
        self.bandwidth.copy_(bandwidth)
