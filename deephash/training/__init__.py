"""Fitting, scoring and reporting of the runs that configs describe."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.training.base import Runner as Runner

__getattr__, __dir__ = exports(__name__)
