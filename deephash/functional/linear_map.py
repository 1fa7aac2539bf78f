"""The linear map of most projections: centring, then inner products with k directions."""

from torch import Tensor


def project_centred(features: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    """Compute (X - μ) W, in the dtype of W.

    The mean is subtracted from the features, not its projection from theirs: if the mean is large compared with the
    spread, as with raw pixels, the latter loses the digits that decide a bit.

    Args:
        features: floating (n, d).
        mean: (d,).
        directions: (d, k).

    Returns:
        (n, k), differentiable in all three.
    """
    return (features.to(directions.dtype) - mean) @ directions
