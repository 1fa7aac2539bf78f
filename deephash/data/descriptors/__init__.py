"""Descriptors: what turns images into feature vectors, one file each."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
