"""Indexes of packed codes: what searches a database without a ranking of all of it."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
