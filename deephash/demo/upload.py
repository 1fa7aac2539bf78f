"""The body of a request, read only as far as it may be long."""

from fastapi import HTTPException, Request

# A photograph of a large camera; Pillow's own bound on pixels comes after.
MOST_IMAGE_BYTES = 20 * 1024 * 1024
# Letters of a text have at most four bytes each.
MOST_TEXT_BYTES = 40_000


async def bounded_body(request: Request, most: int) -> bytes:
    """The whole body, held in memory alone.

    Args:
        request: whose body it is.
        most: bytes that it may have; what claims more is not read, what turns out to have more is not read on.

    Raises:
        HTTPException: 413, a longer body.
    """
    refusal = HTTPException(413, f"This is larger than the {size_text(most)} that are taken; choose a smaller one.")
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > most:
        raise refusal
    body = bytearray()
    async for part in request.stream():
        if len(body) + len(part) > most:
            raise refusal
        body += part
    return bytes(body)


def size_text(size: int) -> str:
    """A number of bytes in words."""
    return f"{size // 2**20} MB" if size >= 2**20 else f"{size // 1000} kB"
