"""Affinities: definitions of neighbours, as ground truth for ranking and supervision for training."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
