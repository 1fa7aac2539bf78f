"""`deephash index add`, `update`, `remove` and `compact`."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="Folder of an index that deephash index made.", show_default=False)]
Codes = Annotated[
    Path, typer.Argument(help="Codes from deephash encode, of the hasher of the index.", show_default=False)
]
NewNames = Annotated[
    Path | None,
    typer.Option(
        help="Names of the items, instead of the ids of the codes: .npy, or a text file with a name in each line.",
        show_default=False,
    ),
]

Columns = Annotated[
    Path | None,
    typer.Option(
        help="Table of columns to filter by, Parquet, CSV or Arrow: a row for each code in their order, or in any "
        "order with the names of the items in a column called name or id.",
        show_default=False,
    ),
]


def add(folder: Folder, codes: Codes, names: NewNames = None, columns: Columns = None) -> None:
    """Add codes to an index; all are on the disk when the command ends, or none."""
    from deephash.code_files.change_index import put_codes

    added, size = put_codes(folder, codes, names, columns)
    typer.echo(f"{folder}: added {added:,} codes; {size:,} in all")


def update(folder: Folder, codes: Codes, names: NewNames = None, columns: Columns = None) -> None:
    """Give items of an index new codes, by their names; all are replaced, or none."""
    from deephash.code_files.change_index import put_codes

    replaced, size = put_codes(folder, codes, names, columns, update=True)
    typer.echo(f"{folder}: replaced {replaced:,} codes; {size:,} in all")


def remove(
    folder: Folder,
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Names of the items, or their ids without names.", show_default=False),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help="File of names: .npy, or a text file with a name in each line.", show_default=False),
    ] = None,
) -> None:
    """Remove items from an index, by their names; all are removed, or none."""
    from deephash.code_files.change_index import remove_items

    removed, size = remove_items(folder, items or (), names)
    typer.echo(f"{folder}: removed {removed:,} items; {size:,} are left")


def compact(folder: Folder) -> None:
    """Write an index again without removed items and without its log, in one step for its readers."""
    from deephash.code_files.change_index import compact_index

    typer.echo(f"{folder}: {compact_index(folder):,} codes, with an empty log")
