"""Which items train, query and are searched: one file per kind of split."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
