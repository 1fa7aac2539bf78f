"""Host names of a server. Requests for other names are refused, so that no web site reads it under a foreign name."""

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A name, an IPv4 address or an IPv6 address in brackets, then an optional port.
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Return whether a server on an address can only be reached from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_own_names(host: str) -> list[str]:
    """Return the names of this machine by which a server on an address can be reached."""
    if is_loopback(host):
        return [host]
    name = socket.gethostname()
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError:
        addresses = set()
    return list(dict.fromkeys([host, name, *sorted(str(address) for address in addresses)]))


def list_host_names(host: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return all names of a server on an address.

    Args:
        host: address that the server listens on.
        names: additional names.
    """
    return (*LOOPBACK, *find_own_names(host), *names)


def parse_host(header: str) -> str | None:
    """Return the name or address in a Host header in lower case, without port and brackets; None if malformed."""
    match = HOST.fullmatch(header)
    return None if match is None else (match[1] or match[2]).lower().removesuffix(".")


def is_named(host: str, names: Sequence[str]) -> bool:
    """Return whether a host is among names. `*.example.org` matches all names below it, and `*` all names."""
    return any(
        name == "*" or host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower()))
        for name in names
    )


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether the Origin header of a request matches its Host header."""
    scheme, _, address = origin.partition("://")
    return scheme in ("http", "https") and address.lower() == host.lower()
