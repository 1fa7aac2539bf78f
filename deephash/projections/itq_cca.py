"""ITQ on supervised directions, by canonical correlation analysis (Gong & Lazebnik, CVPR 2011, section 4)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.indicators import label_indicators
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import BLOCK_ROWS, canonical_signs, feature_mean, principal_components
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.projections.base import Projection
from deephash.projections.itq import iterative_quantisation
from deephash.validation import InvalidInputError, check_count, check_positive

# What the authors add to the diagonal of the indicators' covariance, whose entries are shares of classes.
LABEL_REGULARISATION = 1e-4


def canonical_directions(
    features: Tensor, indicators: Tensor, k: int, regularisation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions in feature space that correlate best with the labels, by falling correlation.

    Solved in the principal components, where the features' covariance is diagonal: the singular vectors of the
    whitened cross-covariance (C_xx + ρI)^(-1/2) C_xy (C_yy + ρ'I)^(-1/2) are the canonical directions, its singular
    values their correlations ρ_j. There are no more of them than labels.

    Args:
        features: X, floating (n, d), n >= 2.
        indicators: Y, floating (n, c).
        k: number of directions.
        regularisation: ρ as a multiple of the mean variance of a feature.

    Returns:
        mean float64 (d,); directions float64 (d, m), m = min(k, c, directions of variance), each of unit regularised
        variance; correlations float64 (m,), falling.
    """
    mean, components, variances = principal_components(features, features.shape[1])
    ridge = regularisation * variances.sum() / features.shape[1]
    whitening = components / (variances + ridge).sqrt()
    indicators = indicators.to(features.device)
    label_mean = feature_mean(indicators)
    cross = torch.zeros(features.shape[1], indicators.shape[1], dtype=torch.float64, device=features.device)
    for x, y in zip(torch.split(features, BLOCK_ROWS), torch.split(indicators, BLOCK_ROWS), strict=True):
        cross += (x.double() - mean).T @ y.double()
    label_covariance = torch.zeros(
        indicators.shape[1], indicators.shape[1], dtype=torch.float64, device=features.device
    )
    for y in torch.split(indicators, BLOCK_ROWS):
        label_covariance += y.double().T @ y.double()
    n = count_rows(features)
    label_covariance = sum_over_processes(label_covariance) / n - label_mean.outer(label_mean)
    label_covariance.diagonal().add_(LABEL_REGULARISATION)
    # Y (C_yy)^(-1/2) by Cholesky: any square root gives the same singular values and left vectors.
    root = torch.linalg.cholesky(label_covariance)
    whitened = torch.linalg.solve_triangular(root, (whitening.T @ sum_over_processes(cross) / n).T, upper=False).T
    left, correlations, _ = torch.linalg.svd(whitened, full_matrices=False)
    m = min(k, len(correlations))
    return mean, canonical_signs(whitening @ left[:, :m]), correlations[:m].clamp_max(1)


@final
class ITQCCA(Projection):
    """Directions that correlate with the labels, scaled by their correlation, then rotated as ITQ rotates.

    Canonical correlation analysis between features and label indicators takes the place of PCA: what tells classes
    apart counts, however little it varies. There are only as many such directions as labels; with more bits than
    labels, the rotation spreads them over all bits.
    Known weakness: the directions are linear, and beyond the number of labels further bits add little.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k; there is no bound.
        iterations: rounds of alternating minimisation; 50 as in the paper.
        regularisation: ridge on the features' covariance, in units of their mean variance, so that their scale does
            not matter. The authors' code adds .0001 whatever the scale, a tenth of the mean variance of CIFAR-10's
            GIST. The fewer the items, the more helps: on validation queries 1 was best of 2,000 items and .3 of 5,000.

    Attributes:
        correlations: float64 (k,), of the canonical directions, 0 beyond their number.

    Raises:
        InvalidInputError: iterations below 1 or regularisation not above 0; in `fit`, labels that are the same for
            all items.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011;
        Hotelling, "Relations between two sets of variates", Biometrika 1936.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2
    fits_on_shares: ClassVar[bool] = True

    mean: Tensor
    correlations: Tensor

    def __init__(self, input_dim: int, output_dim: int, iterations: int = 50, regularisation: float = 0.3) -> None:
        super().__init__(input_dim, output_dim)
        check_count(iterations, "iterations")
        check_positive(regularisation, "regularisation")
        self.iterations = iterations
        self.regularisation = regularisation
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("correlations", torch.zeros(output_dim, dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, W being the canonical directions, scaled and rotated."""
        return project_centred(features, self.mean, self.directions)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        indicators = label_indicators(labels)
        mean, directions, correlations = canonical_directions(
            features, indicators, self.output_dim, self.regularisation
        )
        if not bool((correlations > 1e-6).any()):
            raise InvalidInputError(
                f"the labels of all {len(labels)} training items are the same, so nothing can correlate with them; "
                "give training items of two classes or more."
            )
        k = self.output_dim
        scaled = torch.zeros(features.shape[1], k, dtype=torch.float64, device=features.device)
        scaled[:, : len(correlations)] = directions * correlations
        self.mean.copy_(mean)
        projections = torch.empty(len(features), k, dtype=self.mean.dtype, device=features.device)
        for rows, out in zip(torch.split(features, BLOCK_ROWS), torch.split(projections, BLOCK_ROWS), strict=True):
            out.copy_(project_centred(rows, self.mean, scaled.to(self.mean.dtype)))
        rotation, _ = iterative_quantisation(projections, self.iterations, generator)
        self.directions.copy_(scaled @ rotation)
        self.correlations.zero_()
        self.correlations[: len(correlations)] = correlations
