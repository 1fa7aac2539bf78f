"""Distances of projections from the thresholds of a quantiser, in the unit of its margins."""

import torch
from torch import Tensor, nn

from deephash.quantizers.base import Quantizer
from deephash.validation import InvalidInputError


def unit_thresholds(projections: Tensor, quantizer: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return projections and thresholds, divided by the unit of each projection (see `Quantizer.calibrate`).

    Args:
        projections: floating (n, k), all of the quantiser's or only the first.
        quantizer: module with `thresholds` (k,) or (k, T), and with `allocation` (k,) if projections differ in their
            bits: q bits use the first 2^q - 1 thresholds. None for a threshold of 0 and a unit of 1.

    Returns:
        (n, k), and (k, T) with infinity for unused thresholds; differentiable in projections and thresholds.

    Raises:
        InvalidInputError: the quantiser has no thresholds.
    """
    if quantizer is None:
        return projections, projections.new_zeros(projections.shape[1], 1)
    thresholds = getattr(quantizer, "thresholds", None)
    if not isinstance(quantizer, Quantizer) or not isinstance(thresholds, Tensor):
        if isinstance(quantizer, nn.ModuleDict):
            raise InvalidInputError(
                "The two views have separate thresholds, which this loss does not distinguish; give it codes, such as "
                "loss.quantization.of=codes."
            )
        raise InvalidInputError(
            f"{type(quantizer).__name__} has no thresholds for a loss to use; choose another quantiser or "
            "leave out losses of thresholds."
        )
    thresholds = thresholds.reshape(len(thresholds), -1)
    allocation = getattr(quantizer, "allocation", None)
    if isinstance(allocation, Tensor):
        count = 2**allocation - 1
        unused = torch.arange(thresholds.shape[1], device=thresholds.device) >= count[:, None]
        thresholds = thresholds.masked_fill(unused, torch.inf)
    thresholds = thresholds[: projections.shape[1]]
    projections, thresholds = quantizer.scale_to_units(projections, thresholds)
    return projections, thresholds.to(projections.dtype)


def threshold_distances(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Compute the distance of each projection from its nearest threshold.

    Args:
        projections: floating (n, k).
        thresholds: (k, T); infinity for unused thresholds.

    Returns:
        (n, k'), for the k' projections that have a threshold; differentiable in both.
    """
    cut = thresholds.isfinite().any(1)
    return (projections[:, cut, None] - thresholds[cut]).abs().amin(2)
