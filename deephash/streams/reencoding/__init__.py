"""Re-encoding policies: which codes of a database are re-encoded while the projection changes."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users subclass it, and lazily imported names have no static type.
    from deephash.streams.reencoding.base import Reencoding as Reencoding

__getattr__, __dir__ = exports(__name__)
