"""The figures of a finished run for a model card."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deephash.hashers.model_card import Evidence, Figure
from deephash.io.run_folder import RunFolder
from deephash.metrics.confidence import mean_interval
from deephash.report.comparison import read_scores
from deephash.report.summary import is_comparison, order_metrics

if TYPE_CHECKING:
    import polars

# Settings of a run that a reader needs to repeat the figures, with their names in a card.
SETTINGS = {
    "data": "data",
    "protocol": "protocol",
    "truth": "truth of relevance",
    "train": "training",
    "loss": "loss",
    "seed": "seed",
}


def read_evidence(folder: str | Path) -> Evidence:
    """Return the settings and the figures of a finished run, with intervals over queries and bounds over tie orders.

    Args:
        folder: folder of a run of train.py.

    Raises:
        InvalidInputError: no finished run in the folder, or a damaged file.
    """
    run = RunFolder(Path(folder))
    run.check_complete()
    row, scores = run.read_row(), read_scores(run)
    settings = {name: str(row[key]) for key, name in SETTINGS.items() if row.get(key) is not None}
    settings["sizes"] = ", ".join(f"{part} {count:,}" for part, count in row.get("sizes", {}).items())
    metrics = row["metrics"]
    figures = []
    for name, value in order_metrics(row):
        if is_comparison(name):
            continue
        base, at, depth = name.partition("@")
        worst, best = (metrics.get(f"{base}_{order}{at}{depth}") for order in ("worst", "best"))
        figures.append(Figure(name=name, value=value, interval=find_interval(scores, name), worst=worst, best=best))
    return Evidence(settings=settings, data=str(row["data"]), queries=int(row["sizes"]["query"]), figures=figures)


def find_interval(scores: "polars.DataFrame", name: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a metric over queries; None if it has no value by query, or fewer than two.

    Args:
        scores: the table of `per_query.parquet`.
        name: name of the metric; with two views, after its direction of search: image_to_text/mAP.
    """
    direction, slash, metric = name.partition("/")
    if slash and "_to_" in direction and "direction" in scores.columns:
        scores = scores.filter(scores["direction"] == direction)
    else:
        metric = name
    if metric not in scores.columns or (metric == name and "direction" in scores.columns):
        return None
    values = scores[metric].fill_null(float("nan")).to_numpy()
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    found = mean_interval(values)
    return found.low, found.high
