"""Allocations of VBQ's bits to projections, one file each."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.quantizers.bit_allocations.base import BitAllocation as BitAllocation

__getattr__, __dir__ = exports(__name__)
