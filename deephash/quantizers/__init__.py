"""Quantisers from continuous projections to bits, one file per published method."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.quantizers.base import Quantizer as Quantizer

__getattr__, __dir__ = exports(__name__)
