"""Archives of arrays, `.npz`, read with what their members claim checked before any memory is taken."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LARGEST_EXPANSION = 200
"""An array above `LARGE` that takes this many times its place in the archive is taken for a hostile one."""

LARGE = 1 << 30


@contextmanager
def opened_npz(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an `.npz` file by name, each read when it is asked for.

    Raises:
        Exception: what NumPy, zipfile and zlib raise for a damaged file, which has no common class; ValueError for an
            array of Python objects, or one that claims more than the archive can hold.
    """
    # NumPy does not close a file that turns out to be no archive.
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no archive of arrays")
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                check_member(archive, member)
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            yield stored


def check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header does not fit its length, and one that would fill the memory.

    Raises:
        ValueError: such an array, or one of Python objects.
    """
    check_size(member.file_size, member.compress_size, member.filename)
    if not member.filename.endswith(".npy"):
        return
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        claimed, there = dtype.itemsize, member.file_size - stream.tell()
    for length in shape:  # Python's whole numbers do not overflow.
        claimed *= length
    if claimed != there:
        raise ValueError(f"{member.filename} claims {claimed} bytes and holds {there}")


def check_size(size: int, stored: int, name: str) -> None:
    """Refuse what would take more memory than the machine has, or is packed as only hostile files are.

    Args:
        size: bytes in memory.
        stored: bytes in the file.
        name: how the message calls it.

    Raises:
        ValueError: naming both sizes.
    """
    if size > memory_bytes() or (size > LARGE and size > LARGEST_EXPANSION * stored):
        raise ValueError(f"{name} would unpack from {stored} to {size} bytes")


def memory_bytes() -> int:
    """Bytes of the machine's memory; where the system does not say, more than any has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
