"""Re-encoding policies: which codes of a database are re-encoded while the projection changes."""

from typing import TYPE_CHECKING

from deephash.registry import exports

if TYPE_CHECKING:  # Users inherit from this class; the lazy ones have no type.
    from deephash.streams.reencoding.base import Reencoding as Reencoding

__getattr__, __dir__ = exports(__name__)
