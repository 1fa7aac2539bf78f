"""How the step of a threshold lets gradients pass: one file per relaxation."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
