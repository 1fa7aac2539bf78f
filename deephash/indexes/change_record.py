"""Bytes of a change of an index: the operation, then the codes, the names and the further columns of its items."""

import io
import struct
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deephash.indexes.item_rows import ADD, MAX_NAME, REMOVE, UPDATE, Change
from deephash.io.files import describe_error

if TYPE_CHECKING:
    import polars

OPERATIONS = (ADD, REMOVE, UPDATE)
NAMELESS, WHOLE, WORDS = range(3)
# Operation, type of the names, bytes of a code, number of items, bytes of the names.
HEAD = struct.Struct("<BBxxIQQ")


def encode_change(change: Change) -> bytes:
    """Return a change as bytes."""
    kind, names = encode_names(change.names)
    width = 0 if change.codes is None else change.codes.shape[1]
    head = HEAD.pack(OPERATIONS.index(change.operation), kind, width, len(change), len(names))
    codes = b"" if change.codes is None else change.codes.tobytes()
    return b"".join((head, codes, names, encode_columns(change.columns)))


def decode_change(content: bytes, width: int) -> Change:
    """Return the change that bytes contain.

    Args:
        content: the bytes.
        width: bytes of a code of the index.

    Raises:
        ValueError: bytes that `encode_change` does not write, for codes of this width.
    """
    if len(content) < HEAD.size:
        raise ValueError("a record is too short")
    operation, kind, own_width, count, name_bytes = HEAD.unpack_from(content)
    if operation >= len(OPERATIONS) or kind > WORDS:
        raise ValueError("a record is of an unknown kind")
    has_codes = OPERATIONS[operation] != REMOVE
    if own_width != (width if has_codes else 0):
        raise ValueError(f"a record has codes of {own_width} bytes; expected {width}")
    names_at = HEAD.size + count * own_width
    columns_at = names_at + name_bytes
    if columns_at > len(content) or count > len(content):
        raise ValueError("a record is too short")
    codes = np.frombuffer(content[HEAD.size : names_at], np.uint8).reshape(count, width) if has_codes else None
    names = decode_names(content[names_at:columns_at], kind, count)
    return Change(OPERATIONS[operation], codes, names, decode_columns(content[columns_at:]))


def encode_names(names: NDArray[Any] | None) -> tuple[int, bytes]:
    """Return the type of the names, and their bytes: int64, or the lengths of all words and the words in UTF-8."""
    if names is None:
        return NAMELESS, b""
    if names.dtype.kind == "i":
        return WHOLE, names.astype("<i8").tobytes()
    words = [name.encode("utf-8", "surrogatepass") for name in names.tolist()]
    return WORDS, np.array([len(word) for word in words], "<u4").tobytes() + b"".join(words)


def decode_names(content: bytes, kind: int, count: int) -> NDArray[Any] | None:
    """Return the names of `count` items.

    Raises:
        ValueError: bytes of another length, or words that are too long.
    """
    if kind == NAMELESS:
        if content:
            raise ValueError("a record has names of no type")
        return None
    if kind == WHOLE:
        if len(content) != 8 * count:
            raise ValueError("a record has another number of names")
        return np.frombuffer(content, "<i8").astype(np.int64)
    if len(content) < 4 * count:
        raise ValueError("a record has another number of names")
    lengths = np.frombuffer(content[: 4 * count], "<u4").tolist()
    if 4 * count + sum(lengths) != len(content):
        raise ValueError("a record has names of another length")
    places = accumulate(lengths, initial=4 * count)
    words = [content[start:stop].decode("utf-8", "surrogatepass") for start, stop in pairwise(places)]
    if max(map(len, words), default=0) > MAX_NAME:
        raise ValueError(f"a record has a name of more than {MAX_NAME} characters")
    return np.array(words, np.str_)


def encode_columns(columns: "polars.DataFrame | None") -> bytes:
    """Return further columns as a Parquet file."""
    if columns is None:
        return b""
    file = io.BytesIO()
    columns.write_parquet(file)
    return file.getvalue()


def decode_columns(content: bytes) -> "polars.DataFrame | None":
    """Return the columns of a Parquet file; None for no bytes.

    Raises:
        ValueError: bytes of another format.
    """
    if not content:
        return None
    import polars

    try:
        return polars.read_parquet(io.BytesIO(content))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A panic of polars is no Exception.
        raise ValueError(f"a record has damaged columns: {describe_error(error)}") from error
