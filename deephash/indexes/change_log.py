"""The log of the changes of a saved index: records that are appended and flushed, and read again in their order.

The log begins with a head that names its generation and code length. A record is the length of its content (8 bytes),
a check of the length (8 bytes), the content, and a digest of the content (16 bytes). Checks and digests are BLAKE2b,
keyed by the digest of the record before, so that no record can be changed, moved or left out without notice. A kill
while a record is written leaves a part of it at the end, which a reader ignores and the next writer removes. Any other
damage is an error. A log that is cut at a later time is read up to its last whole record, since a cut looks like a
kill.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from deephash.indexes.change_record import decode_change, encode_change
from deephash.indexes.item_rows import ADD, UPDATE, Change
from deephash.io.files import flush, reading
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from deephash.indexes.base import Index

MAGIC = b"deephash changes of an index, 1\n"
LENGTH = struct.Struct("<Q")
CHECK_BYTES, DIGEST_BYTES = 8, 16
HEAD_BYTES = len(MAGIC) + DIGEST_BYTES
MAX_RECORD = 1 << 40
PIECE = 1 << 20


@dataclass(frozen=True)
class LogEnd:
    """The end of the whole records of a log.

    Args:
        place: their length in bytes.
        digest: digest of the last one, which is the key of the next one.
    """

    place: int
    digest: bytes


def log_head(generation: str, bits: int) -> bytes:
    """Return the first bytes of the log of a generation."""
    own = hashlib.blake2b(f"{generation} {bits}".encode(), digest_size=DIGEST_BYTES)
    return MAGIC + own.digest()


def start_of_log(generation: str, bits: int) -> LogEnd:
    """Return the end of a log without records."""
    head = log_head(generation, bits)
    return LogEnd(len(head), hashlib.blake2b(head, digest_size=DIGEST_BYTES).digest())


def check_of_length(length: bytes, key: bytes) -> bytes:
    """Return the check of a record's length."""
    return hashlib.blake2b(length, digest_size=CHECK_BYTES, key=key).digest()


def digest_of_content(content: bytes, key: bytes) -> bytes:
    """Return the digest of a record's content."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=key).digest()


def create_log(path: Path, generation: str, bits: int) -> None:
    """Write a log without records, and flush it and its folder."""
    path.write_bytes(log_head(generation, bits))
    flush(path)
    flush(path.parent)


def is_log(file: IO[bytes], path: Path) -> bool:
    """Return whether an open log is still the file at its path, so that a reader finds what is written."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def encode_record(change: Change, end: LogEnd) -> tuple[bytes, LogEnd]:
    """Return the record of a change that follows the end of a log, and the new end."""
    content = encode_change(change)
    length = LENGTH.pack(len(content))
    digest = digest_of_content(content, end.digest)
    record = length + check_of_length(length, end.digest) + content + digest
    return record, LogEnd(end.place + len(record), digest)


def read_records(
    file: IO[bytes], generation: str, bits: int, start: LogEnd | None = None
) -> Iterator[tuple[bytes, LogEnd]]:
    """Yield the content of each whole record after `start`, and the end of the log after it.

    Raises:
        ValueError: a damaged log, or one of another generation.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(HEAD_BYTES) != log_head(generation, bits):
        raise ValueError("it is not the log of its index")
    end = start_of_log(generation, bits) if start is None else start
    if size < end.place:
        raise ValueError("it is shorter than before")
    file.seek(end.place)
    overhead = LENGTH.size + CHECK_BYTES + DIGEST_BYTES
    number = 0
    while size - end.place >= LENGTH.size + CHECK_BYTES:
        number += 1
        length, check = file.read(LENGTH.size), file.read(CHECK_BYTES)
        if check != check_of_length(length, end.digest):
            # A file system may have written the new size of the file, but not the bytes, before a power failure.
            if any(length) or any(check) or any(any(piece) for piece in iter(lambda: file.read(PIECE), b"")):
                raise ValueError(f"record {number} is damaged")
            return
        (count,) = LENGTH.unpack(length)
        if count > size - end.place - overhead:
            return
        content, digest = file.read(count), file.read(DIGEST_BYTES)
        if len(digest) < DIGEST_BYTES:
            return  # The log is shorter than when it was opened: its writer has removed a part of a record.
        if digest != digest_of_content(content, end.digest):
            raise ValueError(f"record {number} is damaged")
        end = LogEnd(end.place + overhead + count, digest)
        yield content, end


def replay_log(path: Path, generation: str, index: "Index", start: LogEnd | None = None) -> LogEnd:
    """Carry out the changes of a log in memory.

    Args:
        path: the log.
        generation: name of the generation that the log belongs to.
        index: the index as it was saved, or with the changes up to `start`.
        start: end of the changes that the index contains already; None for none.

    Returns:
        The end of its whole records.

    Raises:
        InvalidInputError: a damaged log.
    """
    if not index.takes_changes:
        raise InvalidInputError(f"{path} exists, but kind={index.kind} takes no changes; restore the index.")
    end = start_of_log(generation, index.bits) if start is None else start
    with reading(path, "the changes of an index", "restore it or build the index again"), path.open("rb") as file:
        for content, after in read_records(file, generation, index.bits, start):
            index.apply(check_again(index, decode_change(content, index.codes.shape[1])))
            # If a later record is damaged, the next call does not carry this one out again.
            end = index.log_end = after
    return end


def check_again(index: "Index", change: Change) -> Change:
    """Check a change that was read, since its digest only shows that it is as written."""
    if change.operation == ADD and change.codes is not None:
        return index.check_add(change.codes, change.names, change.columns)
    if change.operation == UPDATE and change.codes is not None and change.names is not None:
        return index.check_update(change.codes, change.names, change.columns)
    return index.items.check_remove(change.names)
