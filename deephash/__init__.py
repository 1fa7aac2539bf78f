"""deephash: learning to hash in PyTorch.

features (n, d) → `Projection` → projections (n, k) → `Quantizer` → bits (n, b) → packed codes (n, ⌈b/8⌉)
→ Hamming ranking → metrics. Each stage is a folder, each published method a file in it.

Importing this package loads none of its parts; each is loaded when it is used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CrossModalHasher", "Hasher", "__version__", "index", "load", "load_index"]

# Where each name is, imported when it is asked for.
HOMES = {
    "CrossModalHasher": "deephash.cross_modal_hasher",
    "Hasher": "deephash.hasher",
    "index": "deephash.index_building",
    "load": "deephash.loading",
    "load_index": "deephash.index_storage",
}

if TYPE_CHECKING:
    from deephash.cross_modal_hasher import CrossModalHasher
    from deephash.hasher import Hasher
    from deephash.index_building import index
    from deephash.index_storage import load_index
    from deephash.loading import load


def __getattr__(name: str) -> Any:
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'deephash' has no attribute {name!r}")
