"""`deephash info`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from deephash.command_line.arguments import AsJson


def info(
    path: Annotated[Path, typer.Argument(help="A run, a hasher, a file of codes or an index.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Describe a run, a hasher, a file of codes or a saved index, with the identity of its hasher."""
    from deephash.report.path_description import describe_path

    described = describe_path(path)
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(str(path)), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # Identities are folded, not cut, so that they can be copied.
    for name, value in flatten(described):
        table.add_row(escape(name), escape(value))
    Console(soft_wrap=True).print(table)


def flatten(described: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values as text; the name of a nested value follows that of its parent."""
    rows = []
    for name, value in described.items():
        if isinstance(value, dict):
            rows += flatten(value, f"{prefix}{name} ") if value else []
        else:
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            rows.append((f"{prefix}{name}", "–" if value is None else shown))
    return rows
