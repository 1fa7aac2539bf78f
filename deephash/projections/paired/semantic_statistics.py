"""Statistics of labelled pairs for both forms of semantic correlation maximisation (Zhang & Li, AAAI 2014)."""

from typing import NamedTuple

from torch import Tensor

from deephash.functional.semantic_correlation import regularised_whitening, semantic_agreement
from deephash.projections.paired.cvh import covariances
from deephash.validation import InvalidInputError

# Singular values below this share of the largest are rounding errors.
RANK_TOLERANCE = 1e-9


class SemanticStatistics(NamedTuple):
    """Second moments of two views and their agreement with the labels."""

    means: tuple[Tensor, Tensor]
    """Mean of each view, float64 (d,) and (e,)."""
    cross: Tensor
    """Covariance of the views, float64 (d, e)."""
    agreement: Tensor
    """XᵀS̃Y / n², float64 (d, e), with the similarities S̃ of labels as in `SCM`."""
    whitenings: tuple[Tensor, Tensor]
    """Whitening matrix T of each view, (d, d) and (e, e)."""


def semantic_statistics(first: Tensor, second: Tensor, labels: Tensor, regularisation: float) -> SemanticStatistics:
    """Compute the statistics of pairs.

    Args:
        first: X, floating (n, d).
        second: Y, floating (n, e).
        labels: int64 (n,) or bool (n, c).
        regularisation: ridge on each view's covariance, in units of its mean variance.

    Raises:
        InvalidInputError: the agreement is 0 except for rounding, because all items have the same labels.
    """
    *means, first_covariance, second_covariance, cross = covariances(first, second)
    agreement = semantic_agreement(first, second, (means[0], means[1]), labels)
    if float(agreement.abs().max()) <= RANK_TOLERANCE * float(cross.abs().max()):
        raise InvalidInputError(
            f"nothing in the features of the {len(labels)} training items varies with their labels; give items of two "
            "classes or more."
        )
    first_whitening = regularised_whitening(first_covariance, regularisation)
    second_whitening = regularised_whitening(second_covariance, regularisation)
    return SemanticStatistics((means[0], means[1]), cross, agreement, (first_whitening, second_whitening))
