"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[
    Path, typer.Argument(help="Folder of a run of `deephash train`, or of a saved hasher.", show_default=False)
]
View = Annotated[
    str | None, typer.Option(help="View of a hasher of two views, such as image or text.", show_default=False)
]
Device = Annotated[str, typer.Option(help="Device to compute on: cpu, cuda, cuda:1, or auto for a GPU if available.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Features = Annotated[
    str | None,
    typer.Option(help="Array of an .npz file, or comma-separated columns of a table.", show_default=False),
]
Ids = Annotated[
    str | None, typer.Option(help="Column of a table with the ids. Default: id, if present.", show_default=False)
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of a .csv file names the columns; otherwise they are named 0, 1, ...",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace existing output.")]
Workers = Annotated[
    int | None, typer.Option(help="Number of Ray workers. Default: one per processor.", show_default=False, min=1)
]
Address = Annotated[
    str | None,
    typer.Option(help="Address of a running Ray cluster, such as auto. Default: start one here.", show_default=False),
]
Port = Annotated[int, typer.Option(help="Port of the page; 0 chooses a free one.", min=0, max=65_535)]
HostNames = Annotated[
    list[str] | None,
    typer.Option(
        help="Another host name to accept, or *.example.org for all its subdomains. Repeatable.",
        show_default=False,
    ),
]
