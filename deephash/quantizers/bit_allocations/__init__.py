"""Allocations of VBQ's bits to projections, one file each."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
