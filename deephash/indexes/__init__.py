"""Indexes of packed codes, which search a database without ranking all of it."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.indexes.base import Index as Index

__getattr__, __dir__ = exports(__name__)
