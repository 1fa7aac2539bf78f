"""Weights & Biases logs of a run: its curve, bits, sample queries with neighbours, and result row.

Every function takes the run returned by `wandb.init` or by Lightning's `WandbLogger.experiment`, online or offline.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deephash.report.diagnostics import BitDiagnostics
from deephash.report.tables import replace_nonfinite

# Bars of the histograms; W&B draws at most 512.
HISTOGRAM_BARS = 40

MEASURED = ("metrics", "warnings", "seconds", "images_per_second")
"""Entries of a result row that are measured; the others are settings."""


def log_result(run: Any, result: Mapping[str, Any]) -> None:
    """Log a result row: its metrics as the summary of the run, the rest as its config.

    Args:
        run: the W&B run.
        result: as in `metrics.json`.
    """
    settings = {name: value for name, value in result.items() if name not in MEASURED}
    # A resumed run or Lightning's logger may have set some of these already, to the same values.
    run.config.update(replace_nonfinite(settings), allow_val_change=True)
    summary = dict(result.get("metrics", {})) | {"skipped_queries": result.get("skipped_queries", 0)}
    for name in ("seconds", "images_per_second"):
        summary |= {f"{name}/{step}": value for step, value in result.get(name, {}).items()}
    run.summary.update(replace_nonfinite(summary) | {"warnings": list(result.get("warnings", []))})


def log_pr_curve(
    run: Any, recall: Tensor, precision: Tensor, title: str = "Precision-recall", key: str = "pr_curve"
) -> None:
    """Log a precision-recall curve as a plot and a table of radius, recall and precision.

    Args:
        run: the W&B run.
        recall: floating (b + 1,), recall within each radius from 0.
        precision: floating (b + 1,). A radius that retrieves nothing (NaN) is left out.
        title: title of the plot.
        key: name under which the plot is logged.
    """
    import wandb

    from deephash.report.figures import check_curve

    check_curve(recall, precision)
    points = zip(range(len(recall)), recall.tolist(), precision.tolist(), strict=True)
    rows = [list(point) for point in points if not (math.isnan(point[1]) or math.isnan(point[2]))]
    table = wandb.Table(columns=["radius", "recall", "precision"], data=rows)
    run.log({key: wandb.plot.line(table, "recall", "precision", title=title)})


def log_bits(run: Any, diagnostics: BitDiagnostics) -> None:
    """Log the bits: a table with a row for each bit, histograms of balance and correlation, and totals.

    Args:
        run: the W&B run.
        diagnostics: diagnostics of the database codes.
    """
    import numpy as np
    import wandb

    largest = diagnostics.correlation.abs().fill_diagonal_(0).nan_to_num(0).amax(1)
    rows = zip(diagnostics.ones.tolist(), diagnostics.entropy.tolist(), largest.tolist(), strict=True)
    table = wandb.Table(
        columns=["bit", "share of ones", "entropy", "largest |correlation|"],
        data=[[bit, *row] for bit, row in enumerate(rows)],
    )
    logged: dict[str, Any] = {"bits/table": table}
    shares = np.histogram(diagnostics.ones.numpy(), bins=HISTOGRAM_BARS, range=(0, 1))
    logged["bits/share of ones"] = wandb.Histogram(np_histogram=shares)
    pairs = diagnostics.pair_correlations()
    if len(pairs):
        correlations = np.histogram(pairs.numpy(), bins=HISTOGRAM_BARS, range=(-1, 1))
        logged["bits/correlation"] = wandb.Histogram(np_histogram=correlations)
    run.log(logged)
    totals = {
        "dead": len(diagnostics.dead_bits),
        "unbalanced": len(diagnostics.unbalanced_bits),
        "mean |correlation|": diagnostics.mean_correlation,
        "largest |correlation|": diagnostics.largest_correlation,
        "distinct codes": diagnostics.distinct_codes,
    }
    run.summary.update({f"bits/{name}": value for name, value in totals.items()})


def log_pictures(run: Any, folder: Path) -> list[str]:
    """Log the figures in a run folder as images, each under its name.

    Args:
        run: the W&B run.
        folder: folder with `pr_curve.png`, `bits.png` and `neighbours.png` or, with two views, `neighbours.html`.
            Missing files are skipped.

    Returns:
        The logged names.
    """
    import wandb

    names = [name for name in ("pr_curve", "bits", "neighbours") if (folder / f"{name}.png").exists()]
    if names:
        run.log({f"figures/{name}": wandb.Image(str(folder / f"{name}.png")) for name in names})
    page = folder / "neighbours.html"
    if page.exists():
        run.log({"neighbours": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
        names.append("neighbours")
    return names
