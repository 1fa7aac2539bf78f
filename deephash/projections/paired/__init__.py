"""Projections of two views into one code space, learnt together from pairs: one file per published method."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.projections.paired.base import PairedProjection as PairedProjection

__getattr__, __dir__ = exports(__name__)
