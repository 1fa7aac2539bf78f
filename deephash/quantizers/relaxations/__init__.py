"""Relaxations, through which gradients pass a threshold, one file each."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.quantizers.relaxations.base import Relaxation as Relaxation

__getattr__, __dir__ = exports(__name__)
