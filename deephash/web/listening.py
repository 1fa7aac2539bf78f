"""Listening on an address for a service over HTTP."""

import socket

from deephash.validation import InvalidInputError


def listening(host: str, port: int, is_shared: bool = False) -> socket.socket:
    """A socket that listens on an address.

    Args:
        host: name or address of this machine.
        port: to listen on; 0 takes one that is free.
        is_shared: whether other processes may listen on the same port, each for its share of the connections.

    Raises:
        InvalidInputError: an address that is not this machine's, or a port that is taken or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.create_server((host, port), family=family, reuse_port=is_shared)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"host={host} port={port} cannot be listened on ({reason}); choose another --port, 0 for a free one, or "
            "another --host."
        ) from error
    # A reply goes out at once; without this its second half can wait 40 ms for the first to be acknowledged.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
