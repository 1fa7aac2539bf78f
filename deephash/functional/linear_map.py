"""The linear map of most projections: centring, then inner products with k directions."""

from torch import Tensor


def project_centred(features: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Compute (X - μ) W, in the dtype of W.

    The mean is subtracted before the projection. Subtracting the projected mean afterwards would lose the digits that
    decide a bit if the mean is large compared with the spread, as in raw pixels.

    Args:
        features: floating (n, d).
        mean: (d,).
        directions: (d, k).

    Returns:
        (n, k), differentiable in all three.
    """
    return (features.to(directions.dtype) - mean) @ directions
