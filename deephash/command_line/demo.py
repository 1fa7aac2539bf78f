"""`deephash demo`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Device, HostNames, Port
from deephash.command_line.errors import show_error


def demo(
    runs: Annotated[list[Path], typer.Argument(help="Folders of complete runs, one or more.", show_default=False)],
    port: Port = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any except a loopback address lets others see the data.")
    ] = "127.0.0.1",
    name: HostNames = None,
    device: Device = "auto",
) -> None:
    """Show the search results of runs side by side on a local web page: neighbours of images, texts and queries.

    By default only this machine can open the page. The page writes nothing to disk and loads nothing from other hosts.
    """
    from deephash.validation import InvalidInputError

    try:
        from deephash.web.demo.demo_server import serve
        from deephash.web.http_service.host_names import is_loopback
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"deephash demo needs {error.name}; pip install 'deephash[demo]'.") from error
    if not is_loopback(host):
        show_error(
            f"anyone who can reach {host} port {port} sees the data of these runs, without a password or encryption, "
            "and can have images decoded here; leave --host out to serve only this machine.",
            "warning: ",
        )
    typer.echo(f"reading {len(runs)} run{'s' if len(runs) > 1 else ''} ...")
    serve(runs, host, port, name or (), device, lambda address: typer.echo(f"{address} (Ctrl+C ends it)"))
