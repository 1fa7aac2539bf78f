"""Quantisers from continuous projections to bits, one file per published method."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
