"""Streams of items from a data set: their order of arrival and their drift."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.streams.base import Stream as Stream

__getattr__, __dir__ = exports(__name__)
