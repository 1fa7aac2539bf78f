"""deephash: learning to hash in PyTorch.

features (n, d) → `Projection` → projections (n, k) → `Quantizer` → bits (n, b) → packed codes (n, ⌈b/8⌉)
→ Hamming ranking → metrics. Each stage is a folder, and each published method is a file in it.

Importing this package imports none of its parts; each is imported on first use.
"""

from typing import TYPE_CHECKING, Any

__all__ = [
    "CrossModalHasher",
    "HammingRetrieval",
    "Hasher",
    "HashingTransformer",
    "InvalidInputError",
    "__version__",
    "index",
    "load",
    "load_index",
    "open_index",
]

# The module of each public name, imported on first use. The registry finds methods and quantisers.
HOMES = {
    "CrossModalHasher": "deephash.hashers.cross_modal_hasher",
    "HammingRetrieval": "deephash.metrics.hamming_retrieval",
    "Hasher": "deephash.hashers.hasher",
    "HashingTransformer": "deephash.sklearn_transformer",
    "InvalidInputError": "deephash.validation",
    "index": "deephash.indexes.build_index",
    "load": "deephash.hashers.loading",
    "load_index": "deephash.indexes.index_folder",
    "open_index": "deephash.indexes.open_index",
}
PACKAGES = (
    "affinity",
    "augmentations",
    "compression",
    "data",
    "encoders",
    "evaluation",
    "indexes",
    "integrations",
    "losses",
    "projections",
    "quantizers",
    "ranking",
    "streams",
    "training",
)
METHODS = ("projections", "projections.online", "projections.paired", "quantizers")

if TYPE_CHECKING:
    __version__: str
    from deephash.hashers.cross_modal_hasher import CrossModalHasher
    from deephash.hashers.hasher import Hasher
    from deephash.hashers.loading import load
    from deephash.indexes.build_index import index
    from deephash.indexes.index_folder import load_index
    from deephash.indexes.open_index import open_index
    from deephash.metrics.hamming_retrieval import HammingRetrieval
    from deephash.sklearn_transformer import HashingTransformer
    from deephash.validation import InvalidInputError


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        return _read_version()
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name in PACKAGES:
        return import_module(f"deephash.{name}")
    if name[:1].isupper():
        from deephash.registry import find_public

        for package in METHODS:
            found = find_public(f"deephash.{package}", name)
            if found is not None:
                return found
    raise AttributeError(f"module 'deephash' has no attribute {name!r}")


def __dir__() -> list[str]:
    from deephash.registry import list_public_names

    return sorted(
        {*__all__, *PACKAGES, *(name for package in METHODS for name in list_public_names(f"deephash.{package}"))}
    )


def _read_version() -> str:
    """Return the version of the installed package, or 0 for sources that are not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("deephash")
    except PackageNotFoundError:
        return "0"
