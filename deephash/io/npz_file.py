"""Archives of arrays, `.npz`: written atomically, and checked before memory is allocated for their members."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deephash.io.files import write_whole
from deephash.io.npy_file import MAX_EMPTY, read_header, read_values

MAX_EXPANSION = 200
"""Maximum ratio of size in memory to size in the archive, for arrays above `LARGE` bytes."""

LARGE = 1 << 30

ENDING = ".npy"


class NpzArrays(Mapping[str, np.ndarray]):
    """The arrays of an open, checked archive by name, each read on access."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = {
            member.filename.removesuffix(ENDING): member
            for member in archive.infolist()
            if member.filename.endswith(ENDING)
        }

    def __getitem__(self, name: str) -> np.ndarray:
        with self._archive.open(self._members[name]) as stream:
            values = read_values(stream, read_header(stream))
            if stream.read(1):  # zipfile compares the checksum at the end.
                raise ValueError(f"{name} has more bytes than its header claims")
            return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays by name with `write_whole`."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # Given a path, NumPy would add an extension.
            np.savez(file, allow_pickle=False, **arrays)

    write_whole(path, write)


@contextmanager
def open_npz(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Open the arrays of an `.npz` file by name, each read on access.

    Raises:
        Exception: any error of zipfile and zlib for a damaged file; ValueError for an array of Python objects, or one
            that claims more than the archive can contain. Call this within `deephash.io.files.reading`.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not an archive of arrays")
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                check_member(archive, member)
            yield NpzArrays(archive)


def check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise a ValueError for an array that would fill the memory, has a wrong length, or contains Python objects."""
    check_size(member.file_size, member.compress_size, member.filename)
    if not member.filename.endswith(ENDING):
        return
    with archive.open(member) as stream:
        try:
            header = read_header(stream)
        except ValueError as error:
            raise ValueError(f"{member.filename}: {error}") from error
        there = member.file_size - stream.tell()
    if header.nbytes != there or (not header.nbytes and header.count > MAX_EMPTY):
        raise ValueError(f"{member.filename} claims {header.nbytes} bytes and has {there}")


def check_size(size: int, stored: int, name: str) -> None:
    """Raise a ValueError for data larger than the machine's memory, or so compressed that they must be malicious.

    Args:
        size: bytes in memory.
        stored: bytes in the file.
        name: name of the data in the message.
    """
    if size > get_memory_bytes() or (size > LARGE and size > MAX_EXPANSION * stored):
        raise ValueError(f"{name} would unpack from {stored} to {size} bytes")


def get_memory_bytes() -> int:
    """Return the bytes of the machine's memory; 2**62 on systems that do not report them."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
