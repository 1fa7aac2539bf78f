"""Policies of re-encoding: which codes of a database are made anew while the projection moves."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
