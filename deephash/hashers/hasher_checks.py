"""Checks while a hasher is built, fitted and applied."""

import warnings
from typing import Any

import torch
from torch import Tensor

from deephash.encoders.base import Encoder
from deephash.projections.base import Projection
from deephash.quantizers.base import Quantizer
from deephash.validation import InvalidInputError


def check_parts(projection: Any, quantizer: Any, encoder: Any) -> None:
    """Raise an error if a part of a hasher is not an object of its family; None means the default part."""
    for name, part, contract in (
        ("projection", projection, Projection),
        ("quantizer", quantizer, Quantizer),
        ("encoder", encoder, Encoder),
    ):
        if not isinstance(part, contract) and (part is not None or name == "projection"):
            given = f"the class {part.__name__}" if isinstance(part, type) else repr(part).partition("\n")[0]
            raise InvalidInputError(
                f"{name} is {given}; expected an object of a subclass of {contract.__name__}, as in "
                "Hasher(ITQ(128, 64), SBQ(64))."
            )


def check_encoder_fits(encoder: Encoder, projection: Projection) -> None:
    """Raise an error if the encoder's output dimension is not the projection's input dimension."""
    if encoder.output_dim != projection.input_dim:
        raise InvalidInputError(
            f"{type(encoder).__name__} gives {encoder.output_dim} features, but {type(projection).__name__} needs "
            f"{projection.input_dim}; build the projection with input_dim=encoder.output_dim, and an encoder with "
            "no more anchors than there are training items."
        )


def check_quantizer_fits(projection: Projection, quantizer: Quantizer) -> None:
    """Raise an error if the projection's output dimension is not the one that the quantiser needs."""
    if projection.output_dim != quantizer.projection_dim:
        raise InvalidInputError(
            f"{type(projection).__name__} gives {projection.output_dim} projections, but "
            f"{type(quantizer).__name__} of {quantizer.bits} bits needs {quantizer.projection_dim}; build the "
            "projection with output_dim=quantizer.projection_dim."
        )


def check_projections(projections: Tensor, start: int, method: str) -> None:
    """Raise an error if projections of finite features are not finite, since their bits would mean nothing.

    Args:
        projections: (m, k) of a block of rows.
        start: the block's first row.
        method: name of the projection's class.
    """
    if bool(torch.isfinite(projections.sum())):
        return
    bad = torch.nonzero(~torch.isfinite(projections).all(1)).flatten()
    if len(bad):
        raise InvalidInputError(
            f"{method} gives projections that are not finite for {len(bad)} rows, the first at row "
            f"{start + int(bad[0])}. Their features are far larger than those of training; "
            "divide them, or fit on features of that size."
        )


def warn_of_one_code(quantizer: Quantizer, projections: Tensor, method: str, block_size: int) -> None:
    """Warn if all training items have the same code, because searches cannot distinguish them.

    Args:
        quantizer: fitted quantiser.
        projections: (n, k) of the training items.
        method: name of the projection's class.
        block_size: rows that are quantised at a time.
    """
    first = quantizer.quantize(projections[:1].to(quantizer.is_fitted.device))
    for block in torch.split(projections, block_size):
        if bool((quantizer.quantize(block.to(first.device)) != first).any()):
            return
    if len(projections) > 1:
        warnings.warn(
            f"{method} gives all {len(projections)} training items the same code, so every search would return items "
            "in the order of their ids; check that features vary and that there are items of several classes, or "
            "choose other settings.",
            stacklevel=3,
        )
