"""Projections that learn from a stream, batch by batch: one file per published method."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.projections.online.base import OnlineProjection as OnlineProjection

__getattr__, __dir__ = exports(__name__)
