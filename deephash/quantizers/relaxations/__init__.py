"""Relaxations, through which gradients pass a threshold, one file each."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
