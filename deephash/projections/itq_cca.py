"""ITQ on supervised directions, by canonical correlation analysis (Gong & Lazebnik, CVPR 2011, section 4)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.indicators import label_indicators
from deephash.functional.principal_components import BLOCK_ROWS, canonical_signs, feature_mean, principal_components
from deephash.functional.row_shares import count_rows, sum_over_processes
from deephash.projections.itq import iterative_quantisation, project_in_blocks
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import InvalidInputError, check_count, check_positive

# The authors add this to the diagonal of the covariance of indicators, whose entries are at most 1/4 for any data.
LABEL_REGULARISATION = 1e-4


def canonical_directions(
    features: Tensor, indicators: Tensor, k: int, regularisation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the directions in feature space that correlate best with the labels, in descending order of correlation.

    In the principal components, the covariance of the features is diagonal. The singular vectors of the whitened
    cross-covariance (C_xx + ρI)^(-1/2) C_xy (C_yy + ρ'I)^(-1/2) give the canonical directions, and its singular values
    are their correlations. There are at most as many directions as labels.

    Args:
        features: X, floating (n, d), n >= 2.
        indicators: Y, floating (n, c).
        k: number of directions.
        regularisation: ρ as a multiple of the mean variance of a feature.

    Returns:
        mean float64 (d,); directions float64 (d, m), m = min(k, c, directions of variance), each of unit regularised
        variance; correlations float64 (m,), descending.
    """
    mean, components, variances = principal_components(features, features.shape[1])
    ridge = regularisation * variances.sum() / features.shape[1]
    whitening = components / (variances + ridge).sqrt()
    indicators = indicators.to(features.device)
    label_mean = feature_mean(indicators)
    d, c = features.shape[1], indicators.shape[1]
    cross = torch.zeros(d, c, dtype=torch.float64, device=features.device)
    label_covariance = torch.zeros(c, c, dtype=torch.float64, device=features.device)
    for x, y in zip(torch.split(features, BLOCK_ROWS), torch.split(indicators, BLOCK_ROWS), strict=True):
        cross += (x.double() - mean).T @ y.double()
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


def scale_by_correlation(directions: Tensor, correlations: Tensor, k: int, items: str, remedy: str) -> Tensor:
    """Scale directions (d, m) by their correlations and append zeros, to (d, k).

    Raises:
        InvalidInputError: no direction correlates with the labels, because all items have the same labels.
    """
    if not bool((correlations > 1e-6).any()):
        raise InvalidInputError(
            f"the labels of all {items} are the same, so nothing can correlate with them; {remedy} of two classes or "
            "more."
        )
    scaled = directions.new_zeros(len(directions), k)
    scaled[:, : len(correlations)] = directions * correlations
    return scaled


@final
class ITQCCA(LinearProjection):
    """Iterative quantisation with canonical correlation analysis: learns directions that correlate with the labels.

    Canonical correlation analysis between features and label indicators replaces the PCA of ITQ, so that the
    method keeps directions that separate classes, even if the data vary little along them. Each direction is scaled by
    its correlation. There are at most as many directions as labels; the rotation of ITQ then spreads them over all
    bits.
    Known weakness: the directions are linear, and bits beyond the number of labels add little.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k; it may exceed the number of labels.
        iterations: iterations of alternating minimisation; 50 as in the paper.
        regularisation: ridge on the covariance of the features, in units of their mean variance, so that their scale
            does not matter. The authors' code adds .0001 at any scale, a tenth of the mean variance of CIFAR-10's GIST.
            Fewer items need a larger ridge: the best values on validation queries were 1 for 2,000 items and .3 for
            5,000.

    Attributes:
        correlations: float64 (k,), correlations of the canonical directions; 0 beyond their number.

    Raises:
        InvalidInputError: iterations is below 1, or regularisation is not above 0; in `fit`, all items have the same
            labels.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011;
        Hotelling, "Relations between two sets of variates", Biometrika 1936.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2
    fits_on_shares: ClassVar[bool] = True

    correlations: Tensor

    def __init__(self, input_dim: int, output_dim: int, iterations: int = 50, regularisation: float = 0.3) -> None:
        super().__init__(input_dim, output_dim)
        check_count(iterations, "iterations")
        check_positive(regularisation, "regularisation")
        self.iterations = iterations
        self.regularisation = regularisation
        self.register_buffer("correlations", torch.zeros(output_dim, dtype=torch.float64))

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert labels is not None
        k = self.output_dim
        mean, directions, correlations = canonical_directions(
            features, label_indicators(labels), k, self.regularisation
        )
        items = f"{len(labels)} training items"
        scaled = scale_by_correlation(directions, correlations, k, items, "give training items")
        self.mean.copy_(mean)
        projections = project_in_blocks(features, self.mean, scaled, BLOCK_ROWS)
        rotation, _ = iterative_quantisation(projections, self.iterations, generator)
        self.directions.copy_(scaled @ rotation)
        self.correlations.zero_()
        self.correlations[: len(correlations)] = correlations
