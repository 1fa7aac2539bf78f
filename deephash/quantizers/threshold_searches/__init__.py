"""Searches for the thresholds of one projection that maximise the objective of NPQ and VBQ, one file each."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
