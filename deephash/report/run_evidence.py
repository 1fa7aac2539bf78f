"""The figures of a finished run for a model card."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.hashers.model_card import Evidence, Figure
from deephash.io.run_folder import RunFolder
from deephash.metrics.confidence import mean_interval
from deephash.registry import resolve
from deephash.report.comparison import read_scores
from deephash.report.summary import is_comparison, order_metrics

if TYPE_CHECKING:
    import polars

# Settings of a run that a reader needs to repeat the figures, with their names in a card.
SETTINGS = {
    "method": "method",
    "data": "data",
    "protocol": "protocol",
    "truth": "truth of relevance",
    "train": "training",
    "loss": "loss",
    "stream": "stream",
    "reencoding": "re-encoding",
    "seed": "seed",
}

VALIDATION = "validation"
STREAM_NOTE = (
    "The hasher learnt from a stream. mAP is that at its end, and area the mean of mAP over the stream; "
    "prequential_precision is the precision of the nearest items of each batch before it was learnt from. Codes of "
    "different ages were compared, so encoding the whole database again gives other figures."
)
LEARNT_NOTE = (
    "Training items in the database have the codes that the fit learnt for them, so these figures do not apply to new "
    "items."
)
VIEWS_NOTE = "Metrics without a direction are means of the two directions across views."


def read_evidence(folder: str | Path) -> Evidence:
    """Return the settings and the figures of a finished run, with intervals over queries and bounds over tie orders.

    Args:
        folder: folder of a run of train.py.

    Raises:
        InvalidInputError: the folder contains no finished run, or a file is damaged.
    """
    run = RunFolder(Path(folder))
    run.check_complete()
    row = run.read_row()
    # Runs on streams have no scores by query.
    scores = None if row.get("train") == "stream" else read_scores(run)
    settings = {name: str(row[key]) for key, name in SETTINGS.items() if row.get(key) is not None}
    settings |= describe_selection(row)
    settings["sizes"] = ", ".join(f"{part.replace('_', ' ')} {count:,}" for part, count in row["sizes"].items())
    skipped = row.get("skipped_queries", 0)
    if skipped:
        settings["queries without a relevant item, not scored"] = f"{skipped:,}"
    metrics = row["metrics"]
    figures = []
    for name, value in order_metrics(row):
        if value is None or is_comparison(name):
            continue
        base, at, depth = name.partition("@")
        worst, best = (metrics.get(f"{base}_{order}{at}{depth}") for order in ("worst", "best"))
        interval = None if scores is None else find_interval(scores, name)
        figures.append(Figure(name=name, value=value, interval=interval, worst=worst, best=best))
    return Evidence(
        settings=settings,
        data=str(row["data"]),
        queries=None
        if skipped
        else int(row["sizes"]["query" if row.get("score") != VALIDATION else "validation_query"]),
        figures=figures,
        notes=list(list_notes(row)),
        is_joint=row.get("train") == "joint",
        method=row.get("method"),
        losses=tuple(list_losses(run.read_config(to_build=False))) if row.get("train") == "joint" else (),
    )


def list_losses(config: Mapping[Any, Any]) -> Iterator[type[Any]]:
    """Yield the package's classes among the losses of a run, as its config names them."""
    for settings in (config.get("loss") or {}).values():
        found = resolve(str(settings.get("_target_")))
        if found is not None:
            yield found


def describe_selection(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what was chosen on validation queries, and whether the figures are of them."""
    tuned = ", ".join(f"{name}={value}" for name, value in (row.get("tuned") or {}).items())
    chosen = {"chosen on validation queries": tuned} if tuned else {}
    return chosen | ({"queries": "validation, not test"} if row.get("score") == VALIDATION else {})


def list_notes(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the figures of a run mean if it is not evident."""
    if row.get("train") == "stream":
        yield STREAM_NOTE
    if row.get("database_codes") == "learnt":
        yield LEARNT_NOTE
    if any("_to_" in name.partition("/")[0] for name in row["metrics"]):
        yield VIEWS_NOTE


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
