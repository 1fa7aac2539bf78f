"""Vectors kept as codes and read back from them: decoders, codes that suit them, and search by queries in float."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
