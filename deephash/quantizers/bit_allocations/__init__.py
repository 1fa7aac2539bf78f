"""How VBQ spends its bits on dimensions: one file per way."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
