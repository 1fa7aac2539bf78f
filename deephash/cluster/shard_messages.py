"""Messages between a front (the HTTP server) and replicas of shards: a length in bytes, then arrays in NumPy format."""

import asyncio
import io
import struct
from typing import Any

import numpy as np
from numpy.lib import format as array_format

from deephash.validation import InvalidInputError

LENGTH = struct.Struct("<Q")
# A reply contains up to a million neighbours, each with its distance, row and name.
MAX_BYTES = 1 << 30


def encode_message(*arrays: Any) -> bytes:
    """Encode arrays, numbers or strings as one message."""
    buffer = io.BytesIO(bytes(LENGTH.size))
    buffer.seek(LENGTH.size)
    for array in arrays:
        array_format.write_array(buffer, np.asarray(array), allow_pickle=False)
    length = LENGTH.pack(buffer.tell() - LENGTH.size)
    buffer.seek(0)
    buffer.write(length)
    return buffer.getvalue()


async def read_message(reader: asyncio.StreamReader) -> list[np.ndarray]:
    """Read the arrays of the next message.

    Raises:
        asyncio.IncompleteReadError: the connection was closed.
        InvalidInputError: the bytes are not a message.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_BYTES:
        raise InvalidInputError(f"a message of {length:,} bytes; expected at most {MAX_BYTES:,}.")
    buffer, arrays = io.BytesIO(await reader.readexactly(length)), []
    while buffer.tell() < length:
        try:
            arrays.append(array_format.read_array(buffer, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise InvalidInputError(f"a message does not hold arrays ({error}).") from error
    return arrays
