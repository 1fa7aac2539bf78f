"""`deephash score`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Address, AsJson, Overwrite, Workers


def score(
    queries: Annotated[
        Path,
        typer.Argument(help="Codes of queries, with .labels.npy or .neighbours.npz beside them.", show_default=False),
    ],
    database: Annotated[
        list[Path],
        typer.Argument(help="Files of codes, or folders of them, with .labels.npy beside each.", show_default=False),
    ],
    engine: Annotated[
        str, typer.Option(help="torch: the processes of torchrun or SLURM; ray: workers of Ray.")
    ] = "torch",
    workers: Workers = None,
    address: Address = None,
    at: Annotated[str, typer.Option(help="Depths k, with commas between.")] = "100,1000",
    radii: Annotated[str, typer.Option(help="Hamming radii, with commas between.")] = "2",
    device: Annotated[str, typer.Option(help="Where each worker ranks: cpu or cuda.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics, curves and each query's scores.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Rank queries against a database in shards that fits no machine; the figures are those of one process, exactly.

    Each worker ranks its rows and counts distances, and counts add up: `torchrun --no-python --nproc-per-node 4
    deephash score ...` or `--engine ray`.
    """
    from deephash.cluster.shard_scoring import check_out, score_shards, write_scores

    if out is not None:
        out = out.expanduser()
        check_out(out, [queries, *database], overwrite)
    scores = score_shards(
        queries,
        database,
        engine=engine,
        workers=workers,
        address=address,
        at=whole_numbers(at, "at"),
        radii=whole_numbers(radii, "radii"),
        device=device,
    )
    if scores is None:
        return  # Another process shows them.
    if out is not None:
        write_scores(scores, out)
    if as_json:
        from deephash.report.tables import replace_nonfinite

        typer.echo(json.dumps(replace_nonfinite(scores.row), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    sizes = scores.row["sizes"]
    table = Table("metric", "value", title=f"{sizes['query']:,} queries against {sizes['database']:,} items")
    for name, value in scores.row["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console(soft_wrap=True).print(table)


def whole_numbers(text: str, name: str) -> list[int]:
    """Whole numbers of a list with commas; empty of the empty text.

    Raises:
        InvalidInputError: something else among them.
    """
    from deephash.validation import InvalidInputError

    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError as error:
        raise InvalidInputError(f"--{name} {text}; expected whole numbers with commas between, as 100,1000.") from error
