"""The base class of text descriptors: texts → features (n, d)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.validation import InvalidInputError


class TextDescriptor(PlainArguments, ABC):
    """A fixed map from texts to feature vectors, computed independently for each text."""

    version: ClassVar[int] = 1
    """Increased whenever features of the same texts change, so that cached ones are not used."""

    costly: ClassVar[bool] = True
    """Whether features are slow to compute, and therefore cached."""

    @abstractmethod
    def describe(self, texts: Sequence[str]) -> Tensor:
        """Compute features of n texts, float32 (n, d) on the CPU."""

    @abstractmethod
    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, as JSON values for the cache's key."""

    def contents(self) -> str:
        """Return the SHA-256, in hex, of the files that this reads, such as weights; empty if it reads none."""
        return ""


def check_texts(texts: Sequence[str]) -> None:
    """Raise an error for a value that is not a sequence of texts.

    Raises:
        InvalidInputError: a single string, no texts, or an item that is not a string.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise InvalidInputError(f"texts={texts!r}; expected a sequence of at least one text.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"text {row} is {text!r}; expected a string.")
