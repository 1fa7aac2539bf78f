"""The linear map that most projections are: centre, then take inner products with k directions."""

from torch import Tensor


def project_centred(features: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """(X - μ) W, in the dtype of W.

    The mean is taken off the features rather than its projection off theirs: where the mean is large beside the
    spread, as with raw pixels, the latter loses the digits that decide a bit.

    Args:
        features: floating (n, d).
        mean: (d,).
        directions: (d, k).

    Returns:
        (n, k), differentiable in all three.
    """
    return (features.to(directions.dtype) - mean) @ directions
