"""Sockets for HTTP services."""

import socket

from deephash.validation import InvalidInputError


def open_listener(host: str, port: int, is_shared: bool = False) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: name or address of this machine.
        port: port to listen on; 0 chooses a free one.
        is_shared: whether other processes may listen on the same port and share its connections.

    Raises:
        InvalidInputError: the address is not of this machine, or the port is in use or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, reuse_port=is_shared)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"the server cannot listen on host={host} port={port} ({reason}); choose another --port, 0 for "
            "a free one, or another --host."
        ) from error
    # Replies go out at once. Otherwise the second half may wait 40 ms for the first to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
