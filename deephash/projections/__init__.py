"""From features to continuous projections: one file per published method."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
