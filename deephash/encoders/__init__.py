"""Encoders: what comes before the projection, from features to other features."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
