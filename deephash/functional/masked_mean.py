"""The mean of the entries that a mask selects."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask (bool, of the same shape) is True; 0 if it is True nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
