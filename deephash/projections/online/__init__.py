"""Projections that learn from a stream, batch by batch: one file per published method."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; the lazy ones have no type.
    from deephash.projections.online.base import OnlineProjection as OnlineProjection

__getattr__, __dir__ = exports(__name__)
