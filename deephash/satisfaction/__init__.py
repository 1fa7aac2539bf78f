"""User satisfaction: simulated users, interleaving, and agreement between metrics and users."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
