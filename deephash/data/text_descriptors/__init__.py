"""Fixed maps from sentences to feature vectors."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.data.text_descriptors.base import TextDescriptor as TextDescriptor

__getattr__, __dir__ = exports(__name__)
