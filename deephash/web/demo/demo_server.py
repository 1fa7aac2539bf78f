"""Serving the page: on which address, by which names."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from fastapi import FastAPI

from deephash.web.demo.demo_application import build_application
from deephash.web.demo.served_run import load_runs
from deephash.web.http_service.host_names import served_names
from deephash.web.http_service.server import http_server
from deephash.web.listening import listening


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
        application = build(served_names(host, names))
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{opened.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # how the page is meant to be ended
            http_server(application).run(sockets=[opened])
