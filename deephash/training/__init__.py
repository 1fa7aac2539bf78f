"""Fitting, scoring and reporting of the runs that configs describe."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; the lazy ones have no type.
    from deephash.training.base import Runner as Runner

__getattr__, __dir__ = exports(__name__)
