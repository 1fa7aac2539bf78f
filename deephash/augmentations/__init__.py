"""Augmentations: random changes of training items that keep their meaning."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.augmentations.base import Augmentation as Augmentation

__getattr__, __dir__ = exports(__name__)
