"""The server of the demo."""

from collections.abc import Callable, Sequence
from pathlib import Path

from deephash.web.demo.demo_application import build_application
from deephash.web.demo.served_run import load_runs
from deephash.web.page_application import serve_application


def serve(
    folders: Sequence[Path],
    host: str,
    port: int,
    names: Sequence[str] = (),
    device: str = "cpu",
    ready: Callable[[str], None] = print,
) -> None:
    """Serve the demo page of some runs until interrupted.

    Args:
        folders: folders of complete runs.
        host: address to listen on.
        port: port to listen on; 0 chooses a free one.
        names: additional host names of the page.
        device: device on which features are encoded.
        ready: called with the address once the server is ready.

    Raises:
        InvalidInputError: the server cannot listen on the address and port, or a run cannot be shown.
    """
    serve_application(lambda hosts: build_application(load_runs(folders, device), hosts), host, port, names, ready)
