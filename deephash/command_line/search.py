"""`deephash search`."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import AsJson, Device, Features, Header, Ids, Overwrite, View

# Queries and neighbours in the table; a file contains all.
SHOWN_QUERIES, SHOWN_NEIGHBOURS = 20, 10


def search(
    index: Annotated[Path, typer.Argument(help="Folder of an index that deephash index made.", show_default=False)],
    queries: Annotated[
        Path,
        typer.Argument(
            help="Codes from deephash encode; with --run, features or images in its formats.", show_default=False
        ),
    ],
    k: Annotated[int, typer.Option("-k", "--neighbours", help="Number of neighbours of each query.", min=1)] = 10,
    run: Annotated[Path | None, typer.Option(help="Run whose hasher encodes the queries.", show_default=False)] = None,
    view: View = None,
    features: Features = None,
    ids: Ids = None,
    header: Header = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Search only among the items that fulfil a condition on id, name and the columns of the index, such "
            "as \"price < 50 AND colour = 'red'\".",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Search only among items whose names are in a file: .npy, or a text file with a name in each line.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Output file for all results: .npz or .parquet.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find the nearest codes of each query; it is an error if the queries and the index have different hashers."""
    from deephash.code_files.search_index import ENDINGS, search_saved, write_found
    from deephash.io.ownership import check_free, check_not_source
    from deephash.validation import check_choice

    if out is not None:
        out = out.expanduser()
        check_choice(out.suffix, ENDINGS, f"the ending of {out.name}")
        for source in (index, queries):
            check_not_source(source, out)
        check_free(out, overwrite=overwrite)
    found = search_saved(
        index,
        queries,
        k,
        run,
        view,
        device,
        features=features.split(",") if features else None,
        ids=ids,
        header=header,
        where=where,
        names=names,
    )
    if out is not None:
        write_found(found, out)
        typer.echo(f"{k} neighbours of {len(found.queries):,} queries in {out}")
        return
    rows = zip(found.queries.tolist(), found.ids.tolist(), found.distances.tolist(), strict=True)
    if as_json:
        typer.echo(json.dumps([{"query": query, "ids": ids, "distances": near} for query, ids, near in rows]))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True)
    table = Table("query", "nearest, each with its distance")
    # The table takes 7 columns for its lines and margins, and the first column is as wide as its widest query.
    shown = list(rows)[:SHOWN_QUERIES]
    width = console.width - 7 - max([len("query"), *(len(str(query)) for query, _, _ in shown)])
    for query, ids, near in shown:
        # A filter may select fewer than k items; neighbours that were not found are at distance b + 1.
        pairs = [pair for pair in zip(ids, near, strict=True) if pair[1] <= found.bits]
        cells = [f"{name} ({distance})" for name, distance in pairs[:SHOWN_NEIGHBOURS]]
        more = [f"and {len(pairs) - SHOWN_NEIGHBOURS} more"] if len(pairs) > SHOWN_NEIGHBOURS else []
        table.add_row(escape(str(query)), escape(fold_neighbours(cells + more, width)))
    console.print(table)
    if len(found.queries) > SHOWN_QUERIES:
        typer.echo(f"and {len(found.queries) - SHOWN_QUERIES:,} more queries; --out FILE or --json gives all")


def fold_neighbours(neighbours: Sequence[str], width: int) -> str:
    """Join neighbours to lines of at most a width, so that an id and its distance are on the same line."""
    text = "  ".join(each.replace(" ", "\N{NO-BREAK SPACE}") for each in neighbours)
    folded = textwrap.fill(text, max(1, width), break_long_words=False, break_on_hyphens=False)
    return folded.replace("\N{NO-BREAK SPACE}", " ")
