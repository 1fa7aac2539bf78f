"""How far projections lie from the thresholds of a quantiser, in units of its margins."""

import torch
from torch import Tensor, nn

from deephash.quantizers.base import Quantizer
from deephash.validation import InvalidInputError


def unit_thresholds(projections: Tensor, quantizer: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Projections and thresholds over the unit of each projection (see `Quantizer.calibrate`).

    Args:
        projections: floating (n, k).
        quantizer: with `thresholds` (k,) or (k, T); where dimensions differ in their bits, with its `allocation` (k,),
            q bits for the first 2^q - 1 thresholds. None for a threshold of 0 and a unit of 1.

    Returns:
        (n, k), and (k, T) with infinity for what is no threshold; differentiable in projections and thresholds.

    Raises:
        InvalidInputError: a quantiser without thresholds.
    """
    if quantizer is None:
        return projections, projections.new_zeros(projections.shape[1], 1)
    thresholds = getattr(quantizer, "thresholds", None)
    if not isinstance(quantizer, Quantizer) or not isinstance(thresholds, Tensor):
        if isinstance(quantizer, nn.ModuleDict):
            raise InvalidInputError(
                "Each of two views has thresholds of its own, which this loss does not tell apart; give it codes, as "
                "loss.quantization.of=codes."
            )
        raise InvalidInputError(
            f"{type(quantizer).__name__} has no thresholds that a loss could look at; choose another quantiser or "
            "leave out losses of thresholds."
        )
    thresholds = thresholds.reshape(len(thresholds), -1)
    allocation = getattr(quantizer, "allocation", None)
    if isinstance(allocation, Tensor):
        count = 2**allocation - 1
        unused = torch.arange(thresholds.shape[1], device=thresholds.device) >= count[:, None]
        thresholds = thresholds.masked_fill(unused, torch.inf)
    projections, thresholds = quantizer.in_units(projections, thresholds)
    return projections, thresholds.to(projections.dtype)


def threshold_distances(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Distance of each projection from the nearest threshold of its dimension.

    Args:
        projections: floating (n, k).
        thresholds: (k, T); infinity for what is no threshold.

    Returns:
        (n, k'), of the k' dimensions that have a threshold; differentiable in both.
    """
    cut = thresholds.isfinite().any(1)
    return (projections[:, cut, None] - thresholds[cut]).abs().amin(2)
