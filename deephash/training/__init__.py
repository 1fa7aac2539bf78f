"""From a config to a run folder: fitting, scoring, reporting."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
