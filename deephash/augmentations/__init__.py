"""Augmentations: random changes of training items that keep their meaning."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
