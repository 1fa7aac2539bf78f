"""Data sets as Lightning data modules, and the descriptors that turn images into features."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
