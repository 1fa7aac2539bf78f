"""Encoders: maps from features to the input of a projection."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.encoders.base import Encoder as Encoder

__getattr__, __dir__ = exports(__name__)
