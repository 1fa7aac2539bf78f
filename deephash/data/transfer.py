"""HTTP and FTP connections that return a file's bytes from an offset."""

import ftplib
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

CHUNK = 1 << 18

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""HTTP statuses of transient errors."""


class ConnectionLostError(Exception):
    """A transient connection failure."""


class RefusedError(Exception):
    """A permanent refusal by the server."""


@dataclass(frozen=True)
class Transfer:
    """A transfer in progress.

    Args:
        start: offset of the first byte in the file.
        total: length of the whole file; None if the server does not report it.
        chunks: the bytes.
    """

    start: int
    total: int | None
    chunks: Iterable[bytes]


@contextmanager
def open_http(address: str, have: int, timeout: float) -> Iterator[Transfer]:
    """Request the bytes from offset `have`; the connection closes at the end of the block.

    Raises:
        ConnectionLostError: a failed connection.
        RefusedError: a missing file, or an invalid response.
    """
    import requests
    import urllib3

    # Byte positions refer to the uncompressed file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(address, headers=headers, stream=True, timeout=timeout) as response:
            status, length = response.status_code, response.headers.get("Content-Length")
            if status == 206:
                start, total = _parse_content_range(response.headers.get("Content-Range", ""))
                if start != have:
                    raise RefusedError(f"requested byte {have}, but the response starts at {start}")
                yield Transfer(start, total, _read_chunks(response))
            elif status == 200:
                yield Transfer(0, int(length) if length else None, _read_chunks(response))
            elif status == 416:
                # There are no further bytes: the file is complete, or its checksum is wrong.
                yield Transfer(have, have, ())
            elif status in TRANSIENT:
                raise ConnectionLostError(f"HTTP {status} {response.reason}")
            else:
                raise RefusedError(f"HTTP {status} {response.reason}")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ConnectionLostError(f"the connection failed: {_find_reason(error)}") from error


def _read_chunks(response: "requests.Response") -> Iterator[bytes]:  # type: ignore[name-defined]  # noqa: F821
    """Yield bytes as they arrive; waiting for full chunks would lose part of the last one if a connection breaks."""
    return iter(lambda: response.raw.read1(CHUNK), b"")


def _parse_content_range(header: str) -> tuple[int, int | None]:
    """Parse the first byte and the total length of a header such as "bytes 100-199/200"."""
    span, _, total = header.removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    if not first.isdigit():
        raise RefusedError(f"invalid range {header!r} in the response")
    return int(first), int(total) if total.isdigit() else None


@contextmanager
def open_ftp(address: str, have: int, timeout: float) -> Iterator[Transfer]:
    """Request the bytes from offset `have`, as `open_http` does."""
    parts = urlsplit(address)
    file = unquote(parts.path)
    try:
        with ftplib.FTP(timeout=timeout) as ftp:
            ftp.connect(parts.hostname or "", parts.port or ftplib.FTP_PORT)
            ftp.login()
            ftp.voidcmd("TYPE I")
            total = ftp.size(file)
            connection, _ = ftp.ntransfercmd(f"RETR {file}", rest=have or None)
            with connection:
                yield Transfer(have, total, iter(lambda: connection.recv(CHUNK), b""))
    except ftplib.error_perm as error:
        raise RefusedError(str(error)) from error
    except (ftplib.Error, ConnectionError, TimeoutError, EOFError, socket.gaierror) as error:
        raise ConnectionLostError(f"the connection failed: {error}") from error


def _find_reason(error: BaseException) -> str:
    """Return the text of the innermost cause, which is short."""
    while error.args and isinstance(error.args[-1], BaseException):
        error = error.args[-1]
    return str(getattr(error, "reason", error)) or type(error).__name__
