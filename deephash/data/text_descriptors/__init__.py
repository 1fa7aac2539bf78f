"""Fixed maps from sentences to feature vectors."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
