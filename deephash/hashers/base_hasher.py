"""Base class of hashers of one view and of two: a description, an identity and a folder on disk."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

from torch import nn

from deephash.hashers import storage


class BaseHasher(nn.Module, ABC):
    """An encoder, a projection and a quantiser that are fitted, applied and saved as one."""

    @classmethod
    @abstractmethod
    def build(cls, description: dict[str, Any]) -> Self:
        """Build a hasher from a description that `describe` returned; its weights are loaded later.

        Raises:
            InvalidInputError: a class is unknown or does not accept the arguments.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the classes and arguments of the parts, as JSON values."""

    @abstractmethod
    def check_fitted(self) -> None:
        """Raise `NotFittedError` unless the projection and every quantiser are fitted."""

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of the description and the weights; hashers are equal exactly if their identities are."""
        return storage.identity(self.describe(), self.state_dict())

    def save(self, folder: str | Path) -> None:
        """Write `hasher.json` and `weights.safetensors` into a folder, which is created if missing.

        Each file is written whole or not at all.

        Raises:
            InvalidInputError: a part is not fitted, or an argument is not JSON-serialisable.
        """
        self.check_fitted()
        storage.write(Path(folder), self.describe(), self.state_dict())
