"""Projections of two views into one code space, learnt together from pairs: one file per published method."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
