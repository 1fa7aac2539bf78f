"""Augmentations: random changes of training items that leave alone what they are."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
