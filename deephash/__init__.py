"""deephash: learning to hash in PyTorch.

features (n, d) → `Projection` → projections (n, k) → `Quantizer` → bits (n, b) → packed codes (n, ⌈b/8⌉)
→ Hamming ranking → metrics. Each stage is a folder, each published method a file in it.

Importing this package loads none of its parts; each is loaded when it is used.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["CrossModalHasher", "Hasher", "__version__", "index", "load", "load_index"]

# Where each name is, imported when it is asked for.
HOMES = {
    "CrossModalHasher": "deephash.hashers.cross_modal_hasher",
    "Hasher": "deephash.hashers.hasher",
    "index": "deephash.indexes.build_index",
    "load": "deephash.hashers.loading",
    "load_index": "deephash.indexes.index_folder",
}

if TYPE_CHECKING:
    __version__: str
    from deephash.hashers.cross_modal_hasher import CrossModalHasher
    from deephash.hashers.hasher import Hasher
    from deephash.hashers.loading import load
    from deephash.indexes.build_index import index
    from deephash.indexes.index_folder import load_index


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'deephash' has no attribute {name!r}")


def _version() -> str:
    """The version that was installed, which its tag gave; 0 where the source is used without installing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("deephash")
    except PackageNotFoundError:
        return "0"
