"""Objectives of joint training on the relaxed codes of a batch: one file per published loss."""

from deephash.registry import exports

__getattr__, __dir__ = exports(__name__)
