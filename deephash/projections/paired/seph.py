"""Semantics-preserving hashing (Lin, Ding, Hu & Wang, CVPR 2015)."""

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import SELECTIONS
from deephash.functional.anchors import mean_squared_distance
from deephash.functional.generalised_eigenproblem import whitening
from deephash.functional.semantic_correlation import label_directions
from deephash.io.progress import track
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.kernel_view import KernelView, gaussian_kernel
from deephash.validation import InvalidInputError, check_choice, check_count, check_positive

# Pairs whose probabilities are held at a time, 2 MB of float64: what a cache holds.
BLOCK_PAIRS = 2**18
# Spread of the codes that the descent starts from, as in the authors' code.
START = 1e-4


def divergence(codes: Tensor, labels: Tensor, alpha: float) -> tuple[float, Tensor]:
    """Σ p log(1/q) + α ‖|H| - 1‖² / nk and its gradient: the Kullback-Leibler divergence but for p's own entropy.

    p_ij is the cosine of two items' labels, q_ij is 1 / (1 + ‖h_i - h_j‖² / 4), of bits ±1 a t-distribution of their
    Hamming distance; each is divided by its sum over pairs of different items.

    Args:
        codes: H, float64 (n, k).
        labels: L̂, float64 (n, c), as `label_directions` gives.
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
        own = torch.arange(len(rows), device=codes.device), rows
        wanted = labels[rows] @ labels.T
        wanted[own] = 0
        agreement += (wanted * closeness.log()).sum()
        closeness.reciprocal_()
        closeness[own] = 0
        normaliser += closeness.sum()
        for weights, forces in ((wanted.mul_(closeness), pull), (closeness.square_(), push)):
            forces[rows] = weights.sum(1, keepdim=True) * codes[rows] - weights @ codes
    excess = codes.abs() - 1
    value = agreement / total + normaliser.log() + alpha / (n * k) * excess.square().sum()
    signs = torch.where(codes >= 0, 1.0, -1.0).double()
    return float(value), pull / total - push / normaliser + 2 * alpha / (n * k) * excess * signs


def semantic_codes(
    labels: Tensor, bits: int, alpha: float, rounds: int, generator: torch.Generator
) -> tuple[Tensor, list[float]]:
    """Relaxed codes whose distances follow the labels, by L-BFGS from codes near 0; each column has mean 0.

    Args:
        labels: L̂, float64 (n, c).
        bits: k.
        alpha: α.
        rounds: most steps.
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
        # Steps within codes of mean 0, from which the sign of each bit takes about half the items.
        return value, (gradient - gradient.mean(0)).cpu().numpy().ravel()

    steps = iter(track(range(rounds), "Codes"))

    def keep(intermediate_result: object) -> None:
        objectives.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        next(steps, None)

    found = minimize(
        objective,
        (start - start.mean(0)).numpy().ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=keep,
        options={"maxiter": rounds, "ftol": 1e-6, "gtol": 0.0},
    )
    return torch.from_numpy(found.x.reshape(shape)).to(labels.device), objectives


def logistic_regressions(kernel: Tensor, anchor_kernel: Tensor, bits: Tensor, cost: float) -> tuple[Tensor, Tensor]:
    """Kernel logistic regressions, one a bit, penalised by ½ uᵀ K_AA u + C Σ loss.

    With K_AA^(-1/2) on the right of the kernel values, the penalty is a plain one, which scikit-learn solves.

    Args:
        kernel: K(X, A), floating (n, m).
        anchor_kernel: K_AA, (m, m).
        bits: bool (n, k).
        cost: C.

    Returns:
        Coefficients u float64 (m, k) and offsets (k,); a bit that is the same for all items has 0 and ±1.
    """
    from sklearn.linear_model import LogisticRegression

    root = whitening(anchor_kernel.double())
    features = (kernel.double() @ root).cpu().numpy()
    targets = bits.cpu().numpy()
    coefficients = np.zeros((features.shape[1], bits.shape[1]))
    offsets = np.where(targets.any(0), 1.0, -1.0)
    # Bits that part the items alike, as of few classes, have one solution.
    distinct, places = np.unique(targets, axis=1, return_inverse=True)
    for j in track(range(distinct.shape[1]), "Logistic regression"):
        if distinct[:, j].any() and not distinct[:, j].all():
            model = LogisticRegression(C=cost, solver="newton-cholesky").fit(features, distinct[:, j])
            same = places.ravel() == j
            coefficients[:, same] = model.coef_.T
            offsets[same] = model.intercept_
    return root @ torch.from_numpy(coefficients).to(root), torch.from_numpy(offsets).to(root)


def unified(first: Tensor, second: Tensor, bits: Tensor) -> Tensor:
    """Bits of items by both views: the more probable by the product of the views' probabilities over the prior's.

    Args:
        first: log-odds of a bit given one view, (n, k).
        second: given the other.
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
    """Codes whose Hamming distances are distributed as the labels' similarities, learnt by either view with a kernel.

    First come codes of the training items alone: the probability that two items are a pair, by the labels and by a
    t-distribution of their Hamming distance, should be the same, in Kullback-Leibler divergence. Then each view learns
    every bit by kernel logistic regression on its anchors. An item of one view is coded by that view alone.
    Known weakness: the divergence is over all pairs of items and is as good as its local minimum; and codes of training
    items know their labels, so that ranking them shows what was learnt by heart.

    Shape:
        features (n, d of the view) → projections (n, k), log-odds of the bits.

    Args:
        input_dims: feature dimension d of each view by its name.
        output_dim: number of projections k.
        alpha: α, the weight of bits near ±1; .01 in the paper.
        rounds: most steps of the descent.
        items: most training items that codes are learnt for, drawn at random where there are more: the divergence is
            over all pairs of them. The others' `learnt_codes` are what both views say together.
        anchors: number of anchors m of each view; 500 in the paper. `fit` lowers it to the number of items.
        selection: "kmeans" for centres of clusters, or "random" for items drawn at random: SePH_km and SePH_rnd.
        width: σ of the kernel, in units of the root mean square distance between items and anchors.
        cost: C of the logistic regressions; 50 is the authors' weight of .01 on the penalty. It and the width were best
            on held-out queries against a held-out database of Wiki.

    Attributes:
        objectives: of the last fit, the divergence but for a constant, at the start and after each step; not saved.

    Raises:
        InvalidInputError: rounds, items or anchors below 1, another selection, alpha, width or cost not above 0; in
            `fit`, labels that no two items share, or items that are all the same in a view.

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
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
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
                f"no two of {len(rows)} training items share a label, so nothing says which are alike; give items that "
                "do."
            )
        codes, objectives = semantic_codes(directions, self.output_dim, self.alpha, self.rounds, generator)
        self.objectives = tuple(objectives)
        bits = codes >= 0
        for name, features in views.items():
            self._learn(name, features[rows.to(device)], bits, generator)
        learnt = torch.empty(n, self.output_dim, dtype=torch.bool, device=device)
        if n > len(rows):
            first, second = (self._log_odds(name, features) for name, features in views.items())
            learnt[:] = unified(first, second, bits)
        learnt[rows.to(device)] = bits
        self.learnt_codes = learnt
        self.anchors = max(self.view(name).anchors for name in views)

    def _learn(self, name: str, features: Tensor, bits: Tensor, generator: torch.Generator) -> None:
        view = self.view(name)
        centres = SELECTIONS[self.selection](features, min(self.anchors, len(features)), generator)
        squared = mean_squared_distance(features, centres)
        if squared == 0:
            raise InvalidInputError(
                f"all {len(features)} training items are the same in {name}, so a kernel of their distances has no "
                "bandwidth; give data that vary."
            )
        view.set_kernel(centres, self.width * squared**0.5)
        anchors = gaussian_kernel(view.anchor_rows, view.anchor_rows, view.bandwidth)
        view.set(*logistic_regressions(view.kernel(features), anchors, bits, self.cost))

    def _log_odds(self, name: str, features: Tensor) -> Tensor:
        step = max(1, BLOCK_PAIRS // self.view(name).anchors)
        return torch.cat([self.view(name)(rows) for rows in torch.split(features, step)])
