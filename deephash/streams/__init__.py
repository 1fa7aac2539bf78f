"""Streams of items from a data set: their order of arrival and their drift."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
