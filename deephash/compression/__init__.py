"""Compression of vectors as codes: decoders, codes fitted to them, and search with float queries."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
