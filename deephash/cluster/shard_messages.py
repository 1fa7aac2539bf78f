"""Messages between a front and the replicas of shards: arrays in NumPy's format, after their length in bytes."""

import asyncio
import io
import struct
from typing import Any

import numpy as np
from numpy.lib import format as array_format

from deephash.validation import InvalidInputError

LENGTH = struct.Struct("<Q")
# A reply holds up to a million neighbours, each with its distance, row and name.
MAX_BYTES = 1 << 30


def message_of(*arrays: Any) -> bytes:
    """Arrays, numbers or texts as one message."""
    buffer = io.BytesIO(bytes(LENGTH.size))
    buffer.seek(LENGTH.size)
    for array in arrays:
        array_format.write_array(buffer, np.asarray(array), allow_pickle=False)
    length = LENGTH.pack(buffer.tell() - LENGTH.size)
    buffer.seek(0)
    buffer.write(length)
    return buffer.getvalue()


async def read_message(reader: asyncio.StreamReader) -> list[np.ndarray]:
    """The arrays of the next message.

    Raises:
        asyncio.IncompleteReadError: the other side has gone.
        InvalidInputError: something else than a message.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_BYTES:
        raise InvalidInputError(f"a message of {length:,} bytes; expected at most {MAX_BYTES:,}.")
    buffer, arrays = io.BytesIO(await reader.readexactly(length)), []
    while buffer.tell() < length:
        try:
            arrays.append(array_format.read_array(buffer, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise InvalidInputError(f"a message that holds no array ({error}).") from error
    return arrays
