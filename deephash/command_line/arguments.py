"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[
    Path, typer.Argument(help="Folder of a run of `deephash train`, or of a saved hasher.", show_default=False)
]
View = Annotated[
    str | None, typer.Option(help="Which view of a hasher of two views, as image or text.", show_default=False)
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, or auto, a GPU where there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Features = Annotated[
    str | None,
    typer.Option(help="Array of an .npz, or columns of a table, with commas between.", show_default=False),
]
Ids = Annotated[str | None, typer.Option(help="Column of ids of a table; id where there is one.", show_default=False)]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of a .csv names its columns; else they are called 0, 1, ...",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace what lies there.")]
Workers = Annotated[int | None, typer.Option(help="Workers of Ray; one a processor.", show_default=False, min=1)]
Address = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster that runs, as auto; else one is started here.", show_default=False),
]
Port = Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65_535)]
HostNames = Annotated[
    list[str] | None,
    typer.Option(
        help="A further host name by which this is asked for, *.example.org for all below it; may be given again.",
        show_default=False,
    ),
]
