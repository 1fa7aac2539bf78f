"""Read the rows of one array in a file, block by block: `.npy`, `.npz`, `.fvecs`, `.bvecs` or `.ivecs`."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np

from deephash.code_files.fingerprint import fingerprint_file
from deephash.code_files.rows import RowBlock, RowSource, build_block, check_matrix
from deephash.data.array_file import read_array, reading_array
from deephash.data.vectors import extract_vectors, read_vector_layout
from deephash.io.npy_file import NpyHeader, read_header
from deephash.validation import InvalidInputError


@final
class ArrayRows(RowSource):
    """Rows of an array in a stream, or in memory.

    Blocks are read, not mapped into memory, so that their memory is released after use.

    Args:
        path: the file, for messages and its fingerprint.
        shape: (n, d).
        read: function of a first row and a block size in rows, which returns an iterator over blocks. The last block
            may have fewer rows.
        key: name of the array in an `.npz`.
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
        """Return the fingerprint of the file, and the name of the array."""
        return {**fingerprint_file(self.path), "key": self.key}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Yield blocks of rows; ids are row numbers."""
        first = start
        for values in self._read(start, rows):
            stop = first + len(values)
            places = np.arange(first, stop)
            yield build_block(values, places, places, stop)
            first = stop


def open_npy(path: Path) -> ArrayRows:
    """Open an `.npy` file.

    Raises:
        InvalidInputError: a damaged file, or not a matrix of numbers.
    """
    with reading_array(path), path.open("rb") as file:
        header = read_header(file)
        offset = file.tell()
        missing = offset + header.nbytes - path.stat().st_size
        if missing > 0:
            raise ValueError(f"it is truncated: {missing} bytes are missing")
    check_matrix(header.shape, header.dtype, str(path))
    if header.fortran:
        return ArrayRows(path, header.shape, slice_blocks(read_array(path)))
    return ArrayRows(path, header.shape, stream_blocks(path, lambda: path.open("rb"), offset, header))


def open_npz(path: Path, key: str | None) -> ArrayRows:
    """Open an array of an `.npz` file, which is unpacked block by block.

    Args:
        path: the file.
        key: name of the array; None uses the only one.
    """
    with reading_array(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if key is None and len(names) != 1:
            raise InvalidInputError(f"{path} holds {', '.join(names)}; name the array to use: --features NAME.")
        key = names[0] if key is None else key
        if key not in names:
            raise InvalidInputError(f"{path} has no array {key!r}; it holds {', '.join(names)}.")
        member = archive.infolist()[names.index(key)]
        with archive.open(member) as stream:
            header = read_header(stream)
            offset = stream.tell()
        if header.nbytes != member.file_size - offset:
            raise ValueError(f"{key} claims {header.nbytes} bytes and holds {member.file_size - offset}")
    check_matrix(header.shape, header.dtype, f"{key} of {path}")
    if header.fortran:
        return ArrayRows(path, header.shape, slice_blocks(read_array(path, key)), key)

    def open_member() -> BinaryIO:
        return zipfile.ZipFile(path).open(member)  # type: ignore[return-value]

    return ArrayRows(path, header.shape, stream_blocks(path, open_member, offset, header), key)


def open_vectors(path: Path) -> ArrayRows:
    """Open an `.fvecs`, `.bvecs` or `.ivecs` file."""
    layout, rows = read_vector_layout(path)

    def read(start: int, block: int) -> Iterator[np.ndarray]:
        for first in range(start, rows, block):
            yield extract_vectors(np.fromfile(path, layout, block, offset=first * layout.itemsize), path, first)

    return ArrayRows(path, (rows, layout["vector"].shape[0]), read)


def slice_blocks(array: np.ndarray) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Return a function that yields blocks of an array that is in memory or memory-mapped."""
    return lambda start, rows: (array[first : first + rows] for first in range(start, len(array), rows))


def stream_blocks(
    path: Path, open_stream: Callable[[], BinaryIO], offset: int, header: NpyHeader
) -> Callable[[int, int], Iterator[np.ndarray]]:
    """Return a function that reads blocks of an array from a stream.

    Args:
        path: the file, for messages.
        open_stream: function that opens the stream at its beginning.
        offset: position of the first row, in bytes.
        header: header of an array (n, d).
    """
    shape, dtype = header.shape, header.dtype
    width = shape[1] * dtype.itemsize

    def read(start: int, rows: int) -> Iterator[np.ndarray]:
        with reading_array(path), open_stream() as stream:
            stream.seek(offset + start * width)
            for first in range(start, shape[0], rows):
                values = np.empty((min(rows, shape[0] - first), shape[1]), dtype)
                found = stream.readinto(values.view("u1").data)  # type: ignore[attr-defined]
                if found < values.nbytes:
                    raise ValueError(f"it is truncated after row {first + found // width}")
                yield values

    return read
