"""Descriptors: fixed maps from images to feature vectors, one per file."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
