"""Serving the page: on which address, by which names."""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from deephash.demo.application import build_application
from deephash.demo.protection import LOOPBACK
from deephash.demo.served_run import load_runs
from deephash.listening import listening

# Requests at once, beyond which more are turned away.
MOST_REQUESTS = 32


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    names: Sequence[str] = (),
    device: str = "cpu",
    ready: Callable[[str], None] = print,
) -> None:
    """Serve runs until interrupted.

    Args:
        folders: of complete runs.
        host: address to listen on.
        port: to listen on; 0 takes one that is free.
        names: further host names by which the page may be asked for.
        device: where features are encoded.
        ready: is told the page's address as soon as it is there.

    Raises:
        InvalidInputError: an address or a port that cannot be listened on, or runs that cannot be shown.
    """
    serve_application(lambda hosts: build_application(load_runs(folders, device), hosts), host, port, names, ready)


def serve_application(
    build: Callable[[Sequence[str]], FastAPI],
    host: str,
    port: int,
    names: Sequence[str],
    ready: Callable[[str], None],
) -> None:
    """Serve an application until interrupted.

    Args:
        build: makes it for the names and addresses by which it may be asked for.
        host: address to listen on.
        port: to listen on; 0 takes one that is free.
        names: further host names by which it may be asked for.
        ready: is told its address as soon as it is there.

    Raises:
        InvalidInputError: an address or a port that cannot be listened on.
    """
    # Listened on before anything is read, which can take a while, so that a taken port is told at once.
    with listening(host, port) as opened:
        application = build((*LOOPBACK, *own_names(host), *names))
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{opened.getsockname()[1]}")
        settings = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            limit_concurrency=MOST_REQUESTS,
        )
        with suppress(KeyboardInterrupt):  # how the page is meant to be ended
            uvicorn.Server(settings).run(sockets=[opened])


def is_loopback(host: str) -> bool:
    """Whether what listens on an address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str) -> list[str]:
    """Names by which this machine's page is asked for, where it listens for others too."""
    if is_loopback(host):
        return [host]
    name = socket.gethostname()
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError:
        addresses = set()
    return list(dict.fromkeys([host, name, *sorted(str(address) for address in addresses)]))
