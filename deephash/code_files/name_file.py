"""Names of items from the command line: a file of names, or words."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deephash.data.array_file import read_array
from deephash.io.files import reading
from deephash.io.item_names import MAX_WHOLE, as_names
from deephash.validation import InvalidInputError


class Named(Protocol):
    """An index with names of its items."""

    @property
    def names(self) -> NDArray[Any] | None:
        """Names of the items; None if they are called by their ids."""


def read_names(path: Path, index: Named) -> NDArray[Any]:
    """Read names of an index's type from an `.npy` file, or from a text file with a name in each line.

    Raises:
        InvalidInputError: another file, or words for an index whose names are numbers.
    """
    if path.suffix == ".npy":
        return as_names(np.array(read_array(path)), f"names of {path}")
    with reading(path, "names, one in each line", "give an .npy file or a text file"):
        lines = path.read_text(encoding="utf-8").split("\n")
    return parse_names([line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)], index)


def parse_names(words: list[str], index: Named) -> NDArray[Any]:
    """Convert words to the type of an index's names.

    Raises:
        InvalidInputError: a word for an index whose names are numbers.
    """
    if index.names is not None and index.names.dtype.kind == "U":
        return np.array(words, np.str_)
    numbers = []
    for word in words:
        try:
            numbers.append(int(word))
        except ValueError:
            raise InvalidInputError(f"the items of the index are called by numbers; {word!r} is not one.") from None
        if not -MAX_WHOLE - 1 <= numbers[-1] <= MAX_WHOLE:
            raise InvalidInputError(f"the items of the index are called by numbers of 64 bits; {word} is larger.")
    return np.array(numbers, np.int64)
