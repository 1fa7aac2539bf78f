"""Indexes of packed codes, which search a database without ranking all of it."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
