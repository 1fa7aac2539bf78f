"""`deephash export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deephash.command_line.arguments import Overwrite, Run, View

if TYPE_CHECKING:
    from torch import Tensor

# Rows on which a program is checked.
ROWS = 2_048


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="Output file: .pt, .pt2 or .onnx.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(help="torchscript, torch_export or onnx. Default: by OUT's extension.", show_default=False),
    ] = None,
    view: View = None,
    check_on: Annotated[
        Path | None,
        typer.Option(
            help="Features to check the program on, in a format of deephash encode. Default: the run's data.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export a hasher as a program from features to packed codes that runs without deephash.

    Before it is saved, the program is checked on real features: in torch's formats its codes must equal the hasher's.
    In ONNX one bit in 10,000 may differ, since sums may be in another order.
    """
    from deephash.code_files.encoder_of import load_view
    from deephash.export.export_hasher import export_hasher, find_format
    from deephash.io.ownership import check_free, check_not_source

    out = out.expanduser()
    format = find_format(out, format)
    for source in (run / "hasher", *([check_on] if check_on else [])):
        check_not_source(source, out)
    check_free(out, overwrite=overwrite)
    hasher, _, name = load_view(run, view)
    features, what = read_check_features(run, name, check_on, hasher.input_dim)
    done = export_hasher(hasher, features, out, format)
    bits = done.rows * hasher.bits
    same = "bit for bit" if not done.differing_bits else f"except for {done.differing_bits} of {bits} bits"
    typer.echo(
        f"{out}: {done.format}, features float32 (n, {hasher.input_dim}) to codes uint8 (n, {(hasher.bits + 7) // 8}); "
        f"codes equal the hasher's {same} on {done.rows:,} rows of {what}"
    )


def read_check_features(run: Path, view: str, check_on: Path | None, dimension: int) -> "tuple[Tensor, str]":
    """Return features to check the program on, and their description."""
    import torch

    if check_on is not None:
        from deephash.code_files.open_source import open_source

        block = next(open_source(check_on, run).blocks(0, ROWS))
        return block.features, str(check_on)
    if (run / "config.yaml").exists():
        from deephash.export.read_run_features import read_run_features

        return read_run_features(run, view, ROWS), "the run's data"
    # A saved hasher does not record its data.
    return torch.randn(ROWS, dimension, generator=torch.Generator().manual_seed(0)), "random numbers"
