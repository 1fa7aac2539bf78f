"""Encoders: maps from features to the features that a projection takes."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
