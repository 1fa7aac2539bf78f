"""Host names by which a server may be asked, so that no web site reads it under a name of its own."""

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A name or an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether what listens on an address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str) -> list[str]:
    """Names by which this machine's server is asked for, where it listens for others too."""
    if is_loopback(host):
        return [host]
    name = socket.gethostname()
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError:
        addresses = set()
    return list(dict.fromkeys([host, name, *sorted(str(address) for address in addresses)]))


def served_names(host: str, names: Sequence[str]) -> tuple[str, ...]:
    """All names by which a server on an address may be asked for.

    Args:
        host: address that it listens on.
        names: further names.
    """
    return (*LOOPBACK, *own_names(host), *names)


def host_of(header: str) -> str | None:
    """The name or address in a Host header, in lower case, without port and brackets; None where there is none."""
    found = HOST.fullmatch(header)
    return None if found is None else (found[1] or found[2]).lower().removesuffix(".")


def is_named(host: str, names: Sequence[str]) -> bool:
    """Whether a host is among names; a name `*.example.org` stands for all below it, `*` for all."""
    return any(
        name == "*" or host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower()))
        for name in names
    )


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a web page of this origin was loaded from this host, as both headers have it."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == host.lower()
