"""`deephash export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deephash.command_line.arguments import Overwrite, Run, View

if TYPE_CHECKING:
    from torch import Tensor

# Rows that a program is tried on.
ROWS = 2_048


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Where the program goes: .pt, .pt2 or .onnx.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(help="torchscript, torch_export or onnx; by OUT's ending.", show_default=False),
    ] = None,
    view: View = None,
    check_on: Annotated[
        Path | None,
        typer.Option(help="Features to check the program on, as encode takes; the run's own data.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a hasher as a program from features to packed codes, which runs without deephash.

    Before the file is put in place, the program must give the hasher's codes on real features: bit for bit in torch's
    formats, and in ONNX but for one bit in 10,000, which another order of summing may turn.
    """
    from deephash.code_files.encoder_of import load_view
    from deephash.export.export_hasher import export_hasher, format_of
    from deephash.io.ownership import check_free, check_not_source

    out = out.expanduser()
    format = format_of(out, format)
    for source in (run / "hasher", *([check_on] if check_on else [])):
        check_not_source(source, out)
    check_free(out, overwrite=overwrite)
    hasher, _, name = load_view(run, view)
    features, what = features_to_check(run, name, check_on, hasher.input_dim)
    done = export_hasher(hasher, features, out, format)
    same = (
        "bit for bit" if not done.differing_bits else f"but for {done.differing_bits} of {done.rows * hasher.bits} bits"
    )
    typer.echo(
        f"{out}: {done.format}, features float32 (n, {hasher.input_dim}) to codes uint8 (n, {(hasher.bits + 7) // 8}); "
        f"the hasher's codes, {same}, on {done.rows:,} rows of {what}"
    )


def features_to_check(run: Path, view: str, check_on: Path | None, dimension: int) -> "tuple[Tensor, str]":
    """Features to compare on, and what they are in words."""
    import torch

    if check_on is not None:
        from deephash.code_files.open_source import open_source

        block = next(open_source(check_on, run).blocks(0, ROWS))
        return block.features, str(check_on)
    if (run / "config.yaml").exists():
        from deephash.export.run_features import run_features

        return run_features(run, view, ROWS), "the run's data"
    # A hasher alone says nothing of its data.
    return torch.randn(ROWS, dimension, generator=torch.Generator().manual_seed(0)), "random numbers"
