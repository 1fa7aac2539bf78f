"""Protocols: rules that split items into training, query and database parts."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.data.protocols.base import Protocol as Protocol

__getattr__, __dir__ = exports(__name__)
