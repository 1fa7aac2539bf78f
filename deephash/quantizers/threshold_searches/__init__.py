"""Searches for the thresholds of one dimension: one file per way to maximise the objective of NPQ and VBQ."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
