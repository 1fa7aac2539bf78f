"""Whether figures of retrieval tell what users feel: simulated users, interleaving, and how orders of systems agree."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
