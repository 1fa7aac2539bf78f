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
        str, typer.Option(help="torch for the processes of torchrun or SLURM, or ray for workers of Ray.")
    ] = "torch",
    workers: Workers = None,
    address: Address = None,
    at: Annotated[str, typer.Option(help="Comma-separated depths k.")] = "100,1000",
    radii: Annotated[str, typer.Option(help="Comma-separated Hamming radii.")] = "2",
    device: Annotated[str, typer.Option(help="Device of each worker: cpu or cuda.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder for metrics, curves and scores of each query.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score queries against a sharded database too large for one machine; the metrics equal those of one process.

    Each worker ranks its rows and counts distances; the counts are added up. Run it with `torchrun --no-python
    --nproc-per-node 4 deephash score ...`, or with `--engine ray`.
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
        at=parse_whole_numbers(at, "at"),
        radii=parse_whole_numbers(radii, "radii"),
        device=device,
    )
    if scores is None:
        return  # Another process prints them.
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


def parse_whole_numbers(text: str, name: str) -> list[int]:
    """Parse a comma-separated list of whole numbers, which may be empty."""
    from deephash.validation import InvalidInputError

    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError as error:
        raise InvalidInputError(
            f"--{name} {text}; expected comma-separated whole numbers, such as 100,1000."
        ) from error
