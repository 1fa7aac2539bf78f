"""Archives of arrays, `.npz`, read with what their members claim checked before any memory is taken."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deephash.io.npy_file import MAX_EMPTY, read_header, read_values

MAX_EXPANSION = 200
"""An array above `LARGE` that takes this many times its place in the archive is taken for a hostile one."""

LARGE = 1 << 30


ENDING = ".npy"


class NpzArrays(Mapping[str, np.ndarray]):
    """The arrays of an open archive by name, each read when it is asked for.

    Args:
        archive: open; its members have been checked.
    """

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
            if stream.read(1):  # The end is where zipfile compares the checksum.
                raise ValueError(f"{name} holds more than its header claims")
            return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


@contextmanager
def opened_npz(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an `.npz` file by name, each read when it is asked for.

    Raises:
        Exception: what zipfile and zlib raise for a damaged file, which has no common class; ValueError for an array of
            Python objects, or one that claims more than the archive can hold. `deephash.io.files.reading` catches them.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no archive of arrays")
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                check_member(archive, member)
            yield NpzArrays(archive)


def check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise an error for an array whose header does not fit its length, and one that would fill the memory.

    Raises:
        ValueError: such an array, or one of Python objects.
    """
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
        raise ValueError(f"{member.filename} claims {header.nbytes} bytes and holds {there}")


def check_size(size: int, stored: int, name: str) -> None:
    """Refuse what would take more memory than the machine has, or is packed as only hostile files are.

    Args:
        size: bytes in memory.
        stored: bytes in the file.
        name: how the message calls it.

    Raises:
        ValueError: naming both sizes.
    """
    if size > memory_bytes() or (size > LARGE and size > MAX_EXPANSION * stored):
        raise ValueError(f"{name} would unpack from {stored} to {size} bytes")


def memory_bytes() -> int:
    """Bytes of the machine's memory; where the system does not say, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
