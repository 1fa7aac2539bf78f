"""What joint training minimises, from relaxed codes of a batch: one file per published loss."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
