"""Arrays in NumPy's format, `.npy`, with a small strict parser of their headers.

NumPy parses a header as Python source. That fails at random in threads of Python 3.11, and a damaged header raises
errors of the tokenizer, the compiler and the literal evaluator. This parser accepts only what NumPy writes.
"""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
MAX_HEADER = 1 << 16
"""Maximum bytes of a header; NumPy writes 128 for plain numbers."""
MAX_AXES = 32
MAX_VALUE_BYTES = 1 << 24
"""Maximum bytes of one value: strings of up to four million characters."""
MAX_EMPTY = 1 << 24
"""Maximum number of values without bytes, such as empty strings."""

ENTRY = re.compile(r"\s*(['\"])(?P<key>\w+)\1\s*:\s*(?P<value>'[^']*'|\"[^\"]*\"|True|False|\([\d\sL,]*\)|\[)\s*")
TYPE = re.compile(r"[<>|=]?(?:[?bBcSUVaO]\d{0,9}|[iufc]\d{1,2}|[mM]8(?:\[\d{0,9}\w{1,8}\])?)")
LENGTH = re.compile(r"\s*(\d{1,40})L?\s*")


@dataclass(frozen=True)
class NpyHeader:
    """The header of an array.

    Args:
        shape: lengths of the axes.
        fortran: whether the first axis varies fastest.
        dtype: dtype of the values; never Python objects.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def count(self) -> int:
        """Number of values, a Python integer that cannot overflow."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.count * self.dtype.itemsize


def read_header(stream: IO[bytes]) -> NpyHeader:
    """Read the header of an array, up to where the values begin.

    Raises:
        ValueError: another format, or a header that NumPy does not write.
    """
    if stream.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is not an array of NumPy's format")
    version = tuple(read_exactly(stream, 2))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of NumPy's format is unknown")
    layout = "<H" if version == (1, 0) else "<I"
    (length,) = struct.unpack(layout, read_exactly(stream, struct.calcsize(layout)))
    if length > MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; the most is {MAX_HEADER}")
    return parse_header(read_exactly(stream, length).decode("utf-8" if version == (3, 0) else "latin-1"))


def parse_header(text: str) -> NpyHeader:
    """Parse a header, such as `{'descr': '<f4', 'fortran_order': False, 'shape': (30, 4), }`.

    Raises:
        ValueError: the text is not a header.
    """
    body = text.strip()
    if not (body.startswith("{") and body.endswith("}")):
        raise ValueError("its header is damaged")
    found: dict[str, str] = {}
    place, end = 1, len(body) - 1
    while place < end and body[place:end].strip():
        entry = ENTRY.match(body, place, end)
        if entry is None or entry["key"] in found:
            raise ValueError("its header is damaged")
        if entry["value"] == "[":
            raise ValueError("it contains records of several fields; only plain values are read")
        found[entry["key"]] = entry["value"]
        place = entry.end()
        if place < end:
            if body[place] != ",":
                raise ValueError("its header is damaged")
            place += 1
    if found.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header is damaged")
    if found["fortran_order"] not in ("True", "False"):
        raise ValueError("its header is damaged")
    return NpyHeader(parse_shape(found["shape"]), found["fortran_order"] == "True", parse_type(found["descr"]))


def parse_shape(text: str) -> tuple[int, ...]:
    """Parse a shape, such as `(30, 4)`, `(30,)` or `()`; Python 2 wrote `(30L, 4L)`.

    Raises:
        ValueError: the text is not a shape, or has too many axes.
    """
    inner = text[1:-1]
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError("its header is damaged")
    parts = inner.split(",") if inner.strip() else []
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    elif len(parts) == 1:
        raise ValueError("its header is damaged")
    lengths = [LENGTH.fullmatch(part) for part in parts]
    if len(parts) > MAX_AXES or not all(lengths):
        raise ValueError(f"its header claims the shape {text[:80]}")
    return tuple(int(length[1]) for length in lengths if length is not None)


def parse_type(text: str) -> np.dtype:
    """Parse a dtype, such as `'<f4'`.

    Raises:
        ValueError: the dtype is unknown, or of Python objects.
    """
    name = text[1:-1]
    if text[0] not in "'\"" or not TYPE.fullmatch(name):
        raise ValueError(f"its header claims values of type {text[:80]}")
    if "O" in name:
        raise ValueError("it contains Python objects")
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise ValueError(f"its header claims values of type {text[:80]}") from error
    if dtype.itemsize > MAX_VALUE_BYTES:
        raise ValueError(f"its header claims values of {dtype.itemsize} bytes each")
    return dtype


def read_values(stream: IO[bytes], header: NpyHeader) -> np.ndarray:
    """Read the values after a header whose size has been checked against the file.

    Raises:
        ValueError: too few bytes.
    """
    values = np.empty(header.count, header.dtype)
    if header.nbytes:
        place, bytes_of = 0, values.view(np.uint8).data
        while place < header.nbytes:
            read = stream.readinto(bytes_of[place:])  # type: ignore[attr-defined]
            if not read:
                raise ValueError(f"it is truncated: {header.nbytes - place} bytes are missing")
            place += read
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def map_npy(path: Path, mode: Literal["r", "c"] = "r") -> np.ndarray:
    """Map the array of a file into memory.

    Args:
        path: the file.
        mode: `r` for read-only, or `c` for changes that are not written to the file.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: another format, or fewer bytes than the header claims.
    """
    with path.open("rb") as file:
        header = read_header(file)
        start = file.tell()
        there = file.seek(0, 2) - start
        if header.nbytes > there:
            raise ValueError(f"it is truncated: its header claims {header.nbytes} bytes of values, and {there} follow")
        if not header.nbytes:
            if header.count > MAX_EMPTY:
                raise ValueError(f"its header claims {header.count} values of no bytes")
            return np.empty(header.shape, header.dtype)
        order: Literal["F", "C"] = "F" if header.fortran else "C"
        return np.memmap(file, header.dtype, mode, start, header.shape, order)


def read_exactly(stream: IO[bytes], length: int) -> bytes:
    """Read `length` bytes of a stream.

    Raises:
        ValueError: the stream has fewer bytes.
    """
    found = stream.read(length)
    if len(found) < length:
        raise ValueError("it ends within its header")
    return found


def save_npy(path: Path, values: NDArray[Any]) -> None:
    """Write an array into a file through Python's file object.

    NumPy's own writer does not notice if the last bytes do not fit on a full disk.

    Args:
        path: the file; an existing one is replaced.
        values: array of any dtype except object.

    Raises:
        OSError: the disk does not accept it.
    """
    with path.open("wb") as file:
        through: Any = SimpleNamespace(write=file.write)
        np.save(through, values, allow_pickle=False)
