"""Policies of re-encoding: which codes of a database are re-encoded while the projection moves."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
