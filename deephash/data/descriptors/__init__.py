"""Descriptors: fixed maps from images to feature vectors, one per file."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.data.descriptors.base import Descriptor as Descriptor

__getattr__, __dir__ = exports(__name__)
