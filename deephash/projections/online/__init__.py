"""Projections that learn from a stream, batch by batch: one file per published method."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
