"""Support vector machines whose cost and kernel width do not depend on the scale of the features."""

from torch import Tensor

from deephash.functional.anchors import mean_squared_distance
from deephash.functional.principal_components import root_mean_square
from deephash.functional.support_vectors import linear_svm
from deephash.validation import InvalidInputError


def centred_machines(
    features: Tensor, mean: Tensor, bits: Tensor, cost: float, view: str = ""
) -> tuple[Tensor, Tensor]:
    """Learn linear machines on features scaled to unit total variance, one per bit.

    Args:
        features: floating (n, d).
        mean: μ (d,), about which the variance is measured.
        bits: bool (n, k).
        cost: C > 0.
        view: name of the view that the features belong to, for the message.

    Returns:
        Directions W (d, k) and offsets o (k,), such that (x - μ) W + o >= 0 predicts 1.

    Raises:
        InvalidInputError: all items are the same.
    """
    scale = root_mean_square(features, mean)
    if scale == 0:
        raise InvalidInputError(
            f"all {len(features)} training items are the same{f' in {view}' if view else ''}, so no hyperplane "
            "separates them; give data that vary."
        )
    directions, bias = linear_svm(features, bits, cost / scale**2)
    return directions, bias + mean.to(directions) @ directions


def squared_kernel_scale(features: Tensor, anchors: Tensor, view: str = "") -> float:
    """Compute the mean squared distance between rows and anchors, from which the width of a kernel follows.

    Args:
        features: floating (n, d).
        anchors: (m, d).
        view: name of the view that the features belong to, for the message.

    Raises:
        InvalidInputError: all items are the same.
    """
    squared = mean_squared_distance(features, anchors)
    if squared == 0:
        raise InvalidInputError(
            f"all {len(features)} training items are the same{f' in {view}' if view else ''}, so a kernel of their "
            "distances has no bandwidth; give data that vary."
        )
    return squared
