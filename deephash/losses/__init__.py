"""Objectives of joint training on the relaxed codes of a batch: one file per published loss."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; lazily imported classes have no type.
    from deephash.losses.base import Loss as Loss

__getattr__, __dir__ = exports(__name__)
