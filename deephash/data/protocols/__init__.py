"""Protocols: rules that split items into training, query and database parts."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
