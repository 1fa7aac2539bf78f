"""Searches for the thresholds of one projection that maximise the objective of NPQ and VBQ, one file each."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.quantizers.threshold_searches.base import ThresholdSearch as ThresholdSearch

__getattr__, __dir__ = exports(__name__)
