"""Retrieval metrics, computed exactly from distance counts."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
