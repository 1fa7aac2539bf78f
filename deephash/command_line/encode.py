"""`deephash encode`."""

from pathlib import Path
from typing import Annotated

import typer

from deephash.command_line.arguments import Address, Device, Features, Header, Ids, Overwrite, Run, View, Workers
from deephash.command_line.errors import show_error


def encode(
    run: Run,
    source: Annotated[
        str,
        typer.Argument(
            help="Features in a .npy, .npz, .parquet, .csv, .fvecs or .bvecs file, a folder of Parquet files or "
            "images, or the address of one in an object store, such as s3://BUCKET/FOLDER.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            help="Output: .npy, with .ids.npy beside it, or .parquet; with --engine ray, a folder of shards.",
            show_default=False,
        ),
    ],
    view: View = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip rows that cannot be encoded.")] = False,
    features: Features = None,
    ids: Ids = None,
    header: Header = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            help="Side in pixels to scale images to. Default: the side of the run's images.", show_default=False, min=1
        ),
    ] = None,
    device: Device = "auto",
    rows: Annotated[int, typer.Option(help="Rows to read and encode at a time.", min=1)] = 4096,
    overwrite: Overwrite = False,
    engine: Annotated[
        str, typer.Option(help="local for this process, or ray for workers of Ray Data that write shards.")
    ] = "local",
    workers: Workers = None,
    address: Address = None,
    shard_rows: Annotated[int, typer.Option(help="Rows per shard, with --engine ray.", min=1)] = 1 << 20,
) -> None:
    """Encode features or images into packed codes, in constant memory.

    After an interruption, the same command continues and produces the same bytes. Rows with NaN and images that cannot
    be read are listed in OUT's .bad.json. Without --skip-bad, such rows prevent the codes from being saved, and the
    exit status is 1. With --engine ray, several workers write shards and a manifest of their checksums.
    """
    from deephash.validation import check_choice

    check_choice(engine, ("local", "ray"), "engine")
    columns = features.split(",") if features else None
    if engine == "ray":
        from deephash.cluster.shard_encoding import ShardTask, encode_shards

        task = ShardTask(str(run), source, str(out), view, columns, ids, image_size, device, rows, header)
        made = encode_shards(
            task, shard_rows=shard_rows, workers=workers, address=address, overwrite=overwrite, skip_bad=skip_bad
        )
        if made.bad_rows is not None:
            show_error(
                f"{made.bad:,} of {made.bad + made.rows:,} rows cannot be encoded; they are listed beside their "
                f"shards, the first in {made.bad_rows}: repair them, or leave them out with --skip-bad."
            )
            raise typer.Exit(1)
        left_out = f"; {made.bad:,} rows left out, listed in .bad.json beside their shards" if made.bad else ""
        typer.echo(f"{made.rows:,} codes of {made.bits} bits in {made.shards} shards in {out}{left_out}")
        return
    from deephash.code_files.encode_file import encode_file
    from deephash.code_files.encoder_of import load_view
    from deephash.code_files.open_source import open_source

    hasher, identity, view_name = load_view(run, view, device)
    rows_of = open_source(source, run, features=columns, ids=ids, image_size=image_size, header=header)
    done = encode_file(
        hasher, rows_of, out, identity=identity, view=view_name, skip_bad=skip_bad, rows=rows, overwrite=overwrite
    )
    report = out.with_suffix(".bad.json")
    if not done.is_done:
        show_error(
            f"{done.bad:,} of {done.bad + done.rows:,} rows cannot be encoded, the first {done.first_bad}; all are "
            f"listed in {report}: repair them, or leave them out with --skip-bad, which saves the other codes."
        )
        raise typer.Exit(1)
    if done.was_there:
        typer.echo(f"{out} holds these codes already; nothing to do.")
    left_out = f"; {done.bad:,} rows left out, listed in {report}" if done.bad else ""
    typer.echo(f"{done.rows:,} codes of {hasher.bits} bits in {out}{left_out}")
