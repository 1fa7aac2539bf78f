"""Rows of one array in a file: `.npy`, `.npz`, `.fvecs`, `.bvecs` or `.ivecs`, read a block at a time."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from deephash.data.array_file import holds_objects, read_array, unreadable
from deephash.data.vectors import vector_layout, vectors_of
from deephash.encoding.fingerprint import file_fingerprint
from deephash.encoding.rows import RowBlock, RowSource, check_matrix, checked_block
from deephash.validation import InvalidInputError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@final
class ArrayRows(RowSource):
    """The rows of an array whose records follow each other in a stream, or that lies in memory.

    Blocks are read, not mapped into memory: what was read is given back at once.

    Args:
        path: the file, for messages and its fingerprint.
        shape: (n, d).
        read: from the first row and a number of rows on: iterates over arrays of that many rows, the last of fewer.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        read: Callable[[int, int], Iterator[np.ndarray]],
        key: str | None = None,
    ) -> None:
        self.path = path
        self.rows, self._dimension = shape
        self.key = key
        self._read = read

    @property
    def dimension(self) -> int:
        """Feature dimension d."""
        return self._dimension

    def fingerprint(self) -> dict[str, Any]:
        """The file's, and which array of it."""
        return {**file_fingerprint(self.path), "key": self.key}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Blocks of rows; ids are the rows' places."""
        first = start
        for values in self._read(start, rows):
            stop = first + len(values)
            places = np.arange(first, stop)
            yield checked_block(values, places, places, stop)
            first = stop


def open_npy(path: Path) -> ArrayRows:
    """The rows of an `.npy` file.

    Raises:
        InvalidInputError: not one, or no matrix of numbers.
    """
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = read_header(file, path)
            offset = file.tell()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    check_matrix(shape, dtype, str(path))
    if fortran:
        return ArrayRows(path, shape, slices(read_array(path)))
    missing = offset + shape[0] * shape[1] * dtype.itemsize - path.stat().st_size
    if missing > 0:
        raise unreadable(path, ValueError(f"it is truncated: {missing} bytes are missing"))
    return ArrayRows(path, shape, records(path, lambda: path.open("rb"), offset, shape, dtype))


def open_npz(path: Path, key: str | None) -> ArrayRows:
    """The rows of an array of an `.npz` file, unpacked a block at a time.

    Args:
        path: the file.
        key: the array; None takes the only one.

    Raises:
        InvalidInputError: not one, no such array, or no matrix of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if key is None and len(names) != 1:
                raise InvalidInputError(f"{path} holds {', '.join(names)}; name the one to take: --features NAME.")
            key = names[0] if key is None else key
            if key not in names:
                raise InvalidInputError(f"{path} has no array {key!r}; it holds {', '.join(names)}.")
            member = archive.namelist()[names.index(key)]
            with archive.open(member) as stream:
                shape, fortran, dtype = read_header(stream, path)
                offset = stream.tell()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise unreadable(path, error) from error
    check_matrix(shape, dtype, f"{key} of {path}")
    if fortran:
        return ArrayRows(path, shape, slices(read_array(path, key)), key)

    def open_member() -> BinaryIO:
        return zipfile.ZipFile(path).open(member)  # type: ignore[return-value]

    return ArrayRows(path, shape, records(path, open_member, offset, shape, dtype), key)


def open_vectors(path: Path) -> ArrayRows:
    """The rows of an `.fvecs`, `.bvecs` or `.ivecs` file.

    Raises:
        InvalidInputError: not one.
    """
    layout, rows = vector_layout(path)

    def read(start: int, block: int) -> Iterator[np.ndarray]:
        for first in range(start, rows, block):
            yield vectors_of(np.fromfile(path, layout, block, offset=first * layout.itemsize), path, first)

    return ArrayRows(path, (rows, layout["vector"].shape[0]), read)


def read_header(stream: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of the array that a stream in NumPy's format holds.

    Raises:
        ValueError: another format.
        InvalidInputError: Python objects.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, fortran, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise holds_objects(path)
    return shape, fortran, dtype


def slices(array: np.ndarray) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Reading an array that lies in memory, or is mapped into it."""
    return lambda start, rows: (array[first : first + rows] for first in range(start, len(array), rows))


def records(
    path: Path, open_stream: Callable[[], BinaryIO], offset: int, shape: tuple[int, ...], dtype: np.dtype
) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Reading an array whose rows follow each other in a stream.

    Args:
        path: the file, for messages.
        open_stream: opens the stream at its beginning.
        offset: where the first row is.
        shape: (n, d).
        dtype: of a value.
    """
    width = shape[1] * dtype.itemsize

    def read(start: int, rows: int) -> Iterator[np.ndarray]:
        try:
            with open_stream() as stream:
                stream.seek(offset + start * width)
                for first in range(start, shape[0], rows):
                    values = np.empty((min(rows, shape[0] - first), shape[1]), dtype)
                    found = stream.readinto(values.view("u1").data)  # type: ignore[attr-defined]
                    if found < values.nbytes:
                        raise ValueError(f"it is truncated after row {first + found // width}")
                    yield values
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise unreadable(path, error) from error

    return read
