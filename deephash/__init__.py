"""deephash: learning to hash in PyTorch.

features (n, d) → `Projection` → projections (n, k) → `Quantizer` → bits (n, b) → packed codes (n, ⌈b/8⌉)
→ Hamming ranking → metrics. Each stage is a folder, each published method a file in it.

Importing this package loads none of its parts; each is loaded when it is used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Hasher", "__version__"]

if TYPE_CHECKING:
    from deephash.hasher import Hasher


def __getattr__(name: str) -> Any:
    if name == "Hasher":
        from deephash.hasher import Hasher

        return Hasher
    raise AttributeError(f"module 'deephash' has no attribute {name!r}")
