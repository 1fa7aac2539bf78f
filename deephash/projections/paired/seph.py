"""Semantics-preserving hashing (Lin, Ding, Hu & Wang, CVPR 2015)."""

import warnings
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import SELECTIONS
from deephash.functional.generalised_eigenproblem import whitening
from deephash.functional.scaled_machines import squared_kernel_scale
from deephash.functional.semantic_correlation import label_directions
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.kernel_view import KernelView, gaussian_kernel
from deephash.validation import InvalidInputError, check_choice, check_count, check_positive

# Number of pairs whose probabilities are held at a time: 2 MB of float64, which fits in a cache.
BLOCK_PAIRS = 2**18
# Standard deviation of the initial codes, as in the authors' code.
START = 1e-4


def divergence(codes: Tensor, labels: Tensor, alpha: float) -> tuple[float, Tensor]:
    """Σ p log(1/q) + α ‖|H| - 1‖² / nk and its gradient: the Kullback-Leibler divergence without the entropy of p.

    p_ij is the cosine of two items' labels, and q_ij is 1 / (1 + ‖h_i - h_j‖² / 4), which for bits ±1 is a
    t-distribution of their Hamming distance. Each is divided by its sum over pairs of different items.

    Args:
        codes: H, float64 (n, k).
        labels: L̂, float64 (n, c), the result of `label_directions`.
        alpha: α.

    Returns:
        The value, and its gradient (n, k).
    """
    n, k = codes.shape
    total = labels.sum(0).square().sum() - labels.square().sum()
    squares = codes.square().sum(1)
    normaliser, agreement = codes.new_zeros(()), codes.new_zeros(())
    pull, push = torch.empty_like(codes), torch.empty_like(codes)
    for rows in torch.split(torch.arange(n, device=codes.device), max(1, BLOCK_PAIRS // n)):
        closeness = torch.addmm(squares[rows, None] + squares, codes[rows], codes.T, alpha=-2).div_(4).clamp_min_(0)
        closeness.add_(1)
        itself = torch.arange(len(rows), device=codes.device), rows
        similarities = labels[rows] @ labels.T
        similarities[itself] = 0
        agreement += (similarities * closeness.log()).sum()
        closeness.reciprocal_()
        closeness[itself] = 0
        normaliser += closeness.sum()
        for weights, forces in ((similarities.mul_(closeness), pull), (closeness.square_(), push)):
            forces[rows] = weights.sum(1, keepdim=True) * codes[rows] - weights @ codes
    excess = codes.abs() - 1
    value = agreement / total + normaliser.log() + alpha / (n * k) * excess.square().sum()
    signs = torch.where(codes >= 0, 1.0, -1.0).double()
    return float(value), pull / total - push / normaliser + 2 * alpha / (n * k) * excess * signs


def semantic_codes(
    labels: Tensor, bits: int, alpha: float, rounds: int, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """Learn relaxed codes whose distances follow the labels, by L-BFGS from codes near 0; each column has mean 0.

    Args:
        labels: L̂, float64 (n, c).
        bits: number of bits k.
        alpha: α.
        rounds: maximum number of steps.
        generator: CPU generator of the start.

    Returns:
        H float64 (n, k), and `divergence` at the start and after each step, which never rises.
    """
    from scipy.optimize import minimize

    shape = (len(labels), bits)
    start = torch.randn(shape, generator=generator, dtype=torch.float64) * START
    objectives: list[float] = []

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = divergence(torch.from_numpy(flat.reshape(shape)).to(labels.device), labels, alpha)
        if not objectives:
            objectives.append(value)
        # Codes keep mean 0, so that each bit is 1 for about half of the items.
        return value, (gradient - gradient.mean(0)).cpu().numpy().ravel()

    steps = iter(track(range(rounds), "Codes"))

    def record(intermediate_result: object) -> None:
        objectives.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        next(steps, None)

    solution = minimize(
        objective,
        (start - start.mean(0)).numpy().ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=record,
        options={"maxiter": rounds, "ftol": 1e-6, "gtol": 0.0},
    )
    return torch.from_numpy(solution.x.reshape(shape)).to(labels.device), objectives


def logistic_regressions(kernel: Tensor, anchor_kernel: Tensor, bits: Tensor, cost: float) -> tuple[Tensor, Tensor]:
    """Fit kernel logistic regressions, one per bit, penalised by ½ uᵀ K_AA u + C Σ loss.

    Multiplying the kernel values by K_AA^(-1/2) on the right turns the penalty into a ridge, which scikit-learn solves.

    Args:
        kernel: K(X, A), floating (n, m).
        anchor_kernel: kernel values K_AA among the anchors, (m, m).
        bits: bool (n, k).
        cost: weight C of the loss.

    Returns:
        Coefficients u float64 (m, k) and offsets (k,); a bit that is the same for all items has coefficients 0 and
        offset ±1.
    """
    from sklearn.linear_model import LogisticRegression

    root = whitening(anchor_kernel.double())
    features = (kernel.double() @ root).cpu().numpy()
    targets = bits.cpu().numpy()
    coefficients = np.zeros((features.shape[1], bits.shape[1]))
    offsets = np.where(targets.any(0), 1.0, -1.0)
    # Identical columns of bits, which few classes produce, share one solution.
    distinct, places = np.unique(targets, axis=1, return_inverse=True)
    for j in track(range(distinct.shape[1]), "Logistic regression"):
        if distinct[:, j].any() and not distinct[:, j].all():
            with warnings.catch_warnings():
                # The solver changes to lbfgs, which solves the same convex problem, and warns itself if it fails.
                warnings.filterwarnings("ignore", message=r"(?s).*resort to lbfgs")
                model = LogisticRegression(C=cost, solver="newton-cholesky").fit(features, distinct[:, j])
            same = places.ravel() == j
            coefficients[:, same] = model.coef_.T
            offsets[same] = model.intercept_
    return root @ torch.from_numpy(coefficients).to(root), torch.from_numpy(offsets).to(root)


def unify_bits(first: Tensor, second: Tensor, bits: Tensor) -> Tensor:
    """Combine the views: choose the more probable bit by the product of the views' probabilities divided by the prior.

    Args:
        first: log-odds of a bit given one view, (n, k).
        second: log-odds given the other view.
        bits: learnt bits, whose shares are the prior, bool (m, k).

    Returns:
        bool (n, k).
    """
    share = bits.double().mean(0)
    # A bit that all items share has no prior odds to divide by.
    prior = torch.where((share > 0) & (share < 1), torch.logit(share, eps=1e-12), torch.zeros_like(share))
    return first.double() + second.double() - prior >= 0


@final
class SePH(PairedProjection):
    """Semantics-preserving hashing: learns codes whose distances follow the labels, and a kernel map of each view.

    First, codes of the training items are learnt. Labels define a probability for each pair of items, and a
    t-distribution of the Hamming distance defines another; the codes minimise the Kullback-Leibler divergence between
    the two. Then each view learns every bit by kernel logistic regression on its anchors. An item with one view is
    encoded by that view only.
    Known weakness: the divergence includes all pairs of items, and its minimum is local; codes of training items
    contain their labels, so ranking them measures memorisation.

    Shape:
        features (n, d of the view) → projections (n, k), log-odds of the bits.

    Args:
        input_dims: feature dimension d of each view by name.
        output_dim: number of projections k.
        alpha: α, the weight of the penalty on codes far from ±1; .01 in the paper.
        rounds: maximum number of steps of the descent.
        items: maximum number of training items whose codes are learnt, because the divergence includes all pairs of
            them; more are sampled at random. The `learnt_codes` of the other items combine both views.
        anchors: number of anchors m of each view; 500 in the paper. `fit` lowers it to the number of items.
        selection: "kmeans" for centres of clusters, or "random" for random items: SePH_km and SePH_rnd.
        width: σ of the kernel, in units of the root mean square distance between items and anchors.
        cost: C of the logistic regressions; 50 corresponds to the authors' weight of .01 on the penalty. `cost` and
            `width` were best on held-out queries against a held-out database of Wiki.

    Attributes:
        objectives: the divergence up to a constant, at the start and after each step of the last fit; not saved.

    Raises:
        InvalidInputError: rounds, items or anchors is below 1, the selection is unknown, or alpha, width or cost is not
            above 0; in `fit`, no two items share a label, or all items are the same in a view.

    References:
        Lin, Ding, Hu & Wang, "Semantics-preserving hashing for cross-view retrieval", CVPR 2015; "Cross-view retrieval
        via probability-based semantics-preserving hashing", IEEE Transactions on Cybernetics 2017.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    samples_rows: ClassVar[bool] = True

    objectives: tuple[float, ...] = ()

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        alpha: float = 0.01,
        rounds: int = 100,
        items: int = 5000,
        anchors: int = 500,
        selection: str = "kmeans",
        width: float = 1.0,
        cost: float = 50.0,
    ) -> None:
        super().__init__(input_dims, output_dim)
        check_positive(alpha, "alpha")
        check_count(rounds, "rounds")
        check_count(items, "items")
        check_count(anchors, "anchors")
        check_choice(selection, SELECTIONS, "selection")
        check_positive(width, "width")
        check_positive(cost, "cost")
        self.alpha = alpha
        self.rounds = rounds
        self.items = items
        self.anchors = anchors
        self.selection = selection
        self.width = width
        self.cost = cost
        self.views = nn.ModuleDict({name: KernelView(size, output_dim, anchors) for name, size in input_dims.items()})

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        device = self._device()
        n = len(labels)
        rows = torch.arange(n)
        if n > self.items:
            rows = torch.randperm(n, generator=generator)[: self.items]
        directions = label_directions(labels.to(device)[rows.to(device)])
        if float(directions.sum(0).square().sum() - directions.square().sum()) <= 0.5:
            raise InvalidInputError(
                f"no two of {len(rows)} training items share a label, so none are similar; give items that do."
            )
        codes, objectives = semantic_codes(directions, self.output_dim, self.alpha, self.rounds, generator)
        self.objectives = tuple(objectives)
        bits = codes >= 0
        for name, features in views.items():
            self._learn(name, features[rows.to(device)], bits, generator)
        learnt = torch.empty(n, self.output_dim, dtype=torch.bool, device=device)
        if n > len(rows):
            first, second = (self._compute_log_odds(name, features) for name, features in views.items())
            learnt[:] = unify_bits(first, second, bits)
        learnt[rows.to(device)] = bits
        self.learnt_codes = learnt
        self.anchors = max(self.view(name).anchors for name in views)

    def _learn(self, name: str, features: Tensor, bits: Tensor, generator: torch.Generator) -> None:
        view = self.view(name)
        centres = SELECTIONS[self.selection](features, min(self.anchors, len(features)), generator)
        squared = squared_kernel_scale(features, centres, name)
        view.set_kernel(centres, self.width * squared**0.5)
        anchors = gaussian_kernel(view.anchor_rows, view.anchor_rows, view.bandwidth)
        view.set_weights(*logistic_regressions(view.kernel(features), anchors, bits, self.cost))

    def _compute_log_odds(self, name: str, features: Tensor) -> Tensor:
        step = max(1, BLOCK_PAIRS // self.view(name).anchors)
        return torch.cat([self.view(name)(rows) for rows in torch.split(features, step)])
