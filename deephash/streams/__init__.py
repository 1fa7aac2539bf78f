"""Streams: which items of a data set arrive when, and what they look like by then."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
