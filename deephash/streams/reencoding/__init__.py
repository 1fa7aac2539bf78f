"""Re-encoding policies: which codes of a database are re-encoded while the projection changes."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
