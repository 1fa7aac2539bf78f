"""Affinities: definitions of neighbours, as ground truth for ranking and supervision for training."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.affinity.base import Affinity as Affinity

__getattr__, __dir__ = exports(__name__)
