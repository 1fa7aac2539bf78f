"""Data sets as Lightning data modules, and the descriptors that turn images into features."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.data.base import HashingDataModule as HashingDataModule

__getattr__, __dir__ = exports(__name__)
