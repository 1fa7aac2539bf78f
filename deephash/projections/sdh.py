"""Supervised discrete hashing (Shen, Shen, Liu & Shen, CVPR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import AnchorMap
from deephash.functional.anchors import nearest_anchors
from deephash.functional.indicators import label_indicators
from deephash.functional.row_products import row_products
from deephash.functional.row_shares import count_rows, local_rows, sum_over_processes
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import check_count, check_positive

# Number of rows whose kernel values or codes are processed at a time.
BLOCK_ROWS = 4096
# Maximum number of sweeps over the bits in a B-step; it ends earlier if no bit flips.
SWEEPS = 10


def mean_nearest_distance(features: Tensor, anchors: Tensor) -> float:
    """Mean distance between a row and the nearest anchor that is not the row itself.

    Args:
        features: floating (n, d).
        anchors: (m, d).

    Returns:
        0 if every row equals an anchor, or if there is only one anchor.
    """
    squared, _ = nearest_anchors(features, anchors, min(2, len(anchors)))
    # An anchor drawn from the rows has distance 0 from itself, up to rounding of the norms.
    n = count_rows(features)
    mean = sum_over_processes(squared.sum(dtype=torch.float64)) / (n * squared.shape[1])
    is_itself = squared[:, 0] <= 1e-6 * mean
    nearest = torch.where(is_itself, squared[:, -1], squared[:, 0])
    return float(sum_over_processes(nearest.double().sqrt().sum())) / n


def ridge_regression(gram: Tensor, products: Tensor, ridge: float) -> Tensor:
    """(Xᵀ X + λ I)⁻¹ Xᵀ Y.

    Args:
        gram: Xᵀ X, (m, m).
        products: Xᵀ Y, (m, c).
        ridge: λ.

    Returns:
        (m, c).
    """
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solution: Tensor = torch.linalg.solve(gram + ridge * identity, products)
    return solution


def cyclic_coordinate_descent(codes: Tensor, targets: Tensor, classifier: Tensor) -> None:
    """Minimise ‖Bᵀ W‖² - 2 tr(Bᵀ Q) over B in {-1, 1}, in place, one bit after another (Eq. 11).

    Given all other bits, the best value of bit k is sign(q_k - B'ᵀ W' w_k), where a prime leaves out bit k, so that no
    step raises the objective. Items are independent of each other.

    Args:
        codes: B, floating (k, n), one bit per row.
        targets: Q = W Yᵀ + ν F(X), (k, n).
        classifier: weights W of the classes, (k, c).
    """
    interactions = classifier @ classifier.T
    interactions.fill_diagonal_(0)
    for _ in range(SWEEPS):
        before = codes.clone()
        for k, row in enumerate(interactions):
            codes[k] = (targets[k] - row @ codes >= 0).to(codes.dtype) * 2 - 1
        if torch.equal(before, codes):
            return


def discrete_codes(
    kernel: Tensor,
    indicators: Tensor,
    codes: Tensor,
    rounds: int,
    classifier_ridge: float,
    code_weight: float,
    kernel_ridge: float,
) -> tuple[Tensor, Tensor]:
    """Learn codes that a linear classifier separates, and the map from kernel values to them (Algorithm 1).

    The objective ‖Y - B W‖² + λ ‖W‖² + ν (‖B - Φ P‖² + γ ‖P‖²) is minimised over W, then over B, then over P.

    Args:
        kernel: Φ, floating (n, m).
        indicators: label indicators Y, (n, c).
        codes: initial B in {-1, 1}, (n, k); changed in place.
        rounds: number of rounds of the three steps.
        classifier_ridge: λ.
        code_weight: ν.
        kernel_ridge: γ.

    Returns:
        P float64 (m, k); and the objective after each round, float64 (rounds,).
    """
    gram = row_products(kernel, kernel)
    regression = ridge_regression(gram, row_products(kernel, codes), kernel_ridge)
    objectives = torch.empty(rounds, dtype=torch.float64)
    for i in track(range(rounds), "SDH"):
        classifier = ridge_regression(row_products(codes, codes), row_products(codes, indicators), classifier_ridge)
        for start in range(0, len(codes), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            block = codes[rows].double().T.contiguous()
            targets = classifier @ indicators[rows].double().T
            targets += code_weight * (kernel[rows] @ regression.to(kernel.dtype)).double().T
            cyclic_coordinate_descent(block, targets, classifier)
            codes[rows] = block.T.to(codes.dtype)
        correlations = row_products(kernel, codes)
        regression = ridge_regression(gram, correlations, kernel_ridge)
        # At the minimum over P, ‖B - Φ P‖² + γ ‖P‖² = n k - tr(Pᵀ Φᵀ B).
        error = count_rows(codes) * codes.shape[1] - float((regression * correlations).sum())
        misfit = torch.zeros((), dtype=torch.float64, device=codes.device)
        for y, b in zip(torch.split(indicators, BLOCK_ROWS), torch.split(codes, BLOCK_ROWS), strict=True):
            misfit += (y.double() - b.double() @ classifier).square().sum()
        objectives[i] = (
            float(sum_over_processes(misfit))
            + classifier_ridge * float(classifier.square().sum())
            + code_weight * error
        )
    return regression, objectives


@final
class SDH(Projection):
    """Supervised discrete hashing: learns codes from which labels are linearly predictable, and a kernel map to them.

    The codes stay binary during learning: each bit in turn is set to the value that lowers the error of a regression
    from codes to labels, instead of rounding a continuous solution. Kernel ridge regression on the kernel values with
    the anchors then maps new items to codes.
    Known weakness: with one label per item, all items of a class finally share one code, so a ranking does not order
    them. The codes of classes follow from a random start, which ignores how similar the classes are.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        anchors: number of anchors m; `fit` lowers it to the number of training items. 3,000 is a compromise: 1,000 as
            in the paper limits what the map learns from tens of thousands of labels, and encoding costs m kernel values
            per item. On validation queries of CIFAR-10 GIST, with 53,000 labels and 32 bits, mAP is .42, .46, .47
            and .48 for 1,000, 2,000, 3,000 and 4,000 anchors.
        selection: "random" for random training items as in the paper, or "kmeans" for centres of clusters.
        rounds: rounds of classifier, codes and map; 5 as in the paper.
        classifier_ridge: λ, the weight of ‖W‖²; 1 as in the paper.
        code_weight: ν, the weight of the distance between codes and map; 1e-5 as in the paper.
        kernel_ridge: γ, the ridge of the map, which the published code sets to .01.

    Attributes:
        objectives: float64 (rounds,), the objective after each round of the last fit; it never rises.

    Raises:
        InvalidInputError: anchors or rounds is below 1, a weight is not above 0, or the selection is unknown; in `fit`,
            the labels are missing.

    References:
        Shen, Shen, Liu & Shen, "Supervised discrete hashing", CVPR 2015, with the L2 loss. The bandwidth of the kernel
        is the mean distance between an item and its nearest anchor; the published code has a constant for each data
        set.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True
    fits_on_shares: ClassVar[bool] = True

    objectives: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        anchors: int = 3000,
        selection: str = "random",
        rounds: int = 5,
        classifier_ridge: float = 1.0,
        code_weight: float = 1e-5,
        kernel_ridge: float = 0.01,
    ) -> None:
        super().__init__(input_dim, output_dim)
        self.kernel = AnchorMap(input_dim, anchors, selection)
        check_count(rounds, "rounds")
        check_positive(classifier_ridge, "classifier_ridge")
        check_positive(code_weight, "code_weight")
        check_positive(kernel_ridge, "kernel_ridge")
        self.anchors = anchors
        self.selection = selection
        self.rounds = rounds
        self.classifier_ridge = classifier_ridge
        self.code_weight = code_weight
        self.kernel_ridge = kernel_ridge
        self.register_buffer("objectives", torch.zeros(rounds, dtype=torch.float64))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """F(X) = Φ(X) P, where Φ are the kernel values with the anchors."""
        values: Tensor = self.kernel(features)
        return values @ self.weights

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        self.anchors = self.kernel.fit(features, generator).anchors
        distance = mean_nearest_distance(features, self.kernel.centres)
        if distance > 0:
            self.kernel.bandwidth.fill_(distance)
        kernel = torch.cat([self.kernel(block) for block in torch.split(features, BLOCK_ROWS)])
        start = torch.randint(2, (count_rows(features), self.output_dim), generator=generator, dtype=torch.int8)
        codes = (start[local_rows(features)] * 2 - 1).to(device=kernel.device, dtype=kernel.dtype)
        weights, objectives = discrete_codes(
            kernel,
            label_indicators(labels.to(kernel.device), kernel.dtype),
            codes,
            self.rounds,
            self.classifier_ridge,
            self.code_weight,
            self.kernel_ridge,
        )
        self.weights = nn.Parameter(weights.to(self.weights.dtype))
        self.objectives.copy_(objectives)
