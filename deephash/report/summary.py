"""The summary of a run that is printed at its end."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deephash.io.files import shorten_path
from deephash.report.tables import IDENTITY, format_value

# Metrics that papers compare. They come first; the others follow in the order of the row.
LEADING_METRICS = ("mAP", "AUPRC_micro", "AUPRC_macro")
# Settings that appear in the title of a result.
TITLE = ("method", "quantizer", "bits", "data")
# Parts of the names of metrics that only serve comparison with published code: other tie orders and denominators.
COMPARISON_MARKS = ("_best", "_worst", "_stable", "/")
# Rankings of texts, as `score_references` names them.
REFERENCES = {
    "codes": "Hamming distance of codes",
    "float_query": "candidates by float query",
    "vectors": "float vectors by cosine",
}
# Files of a run folder with descriptions, the most useful first.
FILES = (
    ("metrics.json", "the result row"),
    ("per_query.parquet", "scores of each query"),
    ("pr_curve.png", "precision-recall curve"),
    ("pr_curve.json", "precision-recall curve as numbers"),
    ("bits.png", "balance and correlation of the bits"),
    ("neighbours.png", "sample queries with their neighbours"),
    ("neighbours.html", "sample queries with their neighbours, as texts or in the other view"),
    ("stream.png", "mAP and re-encoded items by items seen"),
    ("learning_curve.png", "validation score and losses by epoch"),
    ("history.json", "validation score and losses by epoch, as numbers"),
    ("hasher", "the hasher"),
    ("start", "the fitted hasher from which joint training started"),
    ("split.npz", "rows of every part"),
    ("config.yaml", "the resolved config"),
    ("tune.json", "values tried on validation queries"),
    ("environment.json", "versions, machine, state of the source"),
)


def order_metrics(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the metrics of a result row, those that papers compare first."""
    metrics = dict(result.get("metrics", {}))
    leading = [name for name in LEADING_METRICS if name in metrics]
    return [(name, metrics[name]) for name in (*leading, *(name for name in metrics if name not in leading))]


def is_comparison(metric: str) -> bool:
    """Return whether a metric only serves comparison with published code and is not the one to quote."""
    # With two views, the name of the direction comes first: image_to_text/mAP.
    direction, _, rest = metric.partition("/")
    return any(mark in (rest if "_to_" in direction else metric) for mark in COMPARISON_MARKS)


def tabulate_directions(result: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the metrics that papers compare, one row per direction of search, with the mean across views first.

    Args:
        result: as in `metrics.json`.

    Returns:
        Names of the metrics, and rows of a direction and its formatted metrics; no rows with one view.
    """
    metrics = dict(result.get("metrics", {}))
    directions = list(dict.fromkeys(name.partition("/")[0] for name in metrics if "_to_" in name.partition("/")[0]))
    means = [name for name, _ in order_metrics(result) if "_to_" not in name and not is_comparison(name)]
    names = [name for name in means if name in LEADING_METRICS or name.startswith("mAP@")]
    rows = [(format_direction(d), *(format_value(metrics.get(f"{d}/{name}")) for name in names)) for d in directions]
    return names, [("mean across views", *(format_value(metrics[name]) for name in names)), *rows] if rows else []


def format_direction(direction: str) -> str:
    """Format a direction for readers: image_to_text as image → text."""
    return direction.replace("_to_", " → ")


def list_bias(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return modality bias as pairs of name and text; empty with one view."""
    bias = result.get("modality_bias")
    if not bias:
        return []
    shares = ", ".join(
        f"{view} {share:.0%} (of the database {bias['database_share'][view]:.0%})"
        for view, share in bias["own_share"].items()
    )
    agreement = f"{bias['bit_agreement']:.0%} (by chance {bias['chance_agreement']:.0%})"
    return [
        ("gap between directions", f"{bias['gap']:.0%}"),
        (f"own view in the first {bias['depth']}", shares),
        ("bits on which a pair agrees", agreement),
    ]


def list_settings(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return identity, split, sizes and seconds of a result as pairs of name and text."""
    rows = [(name, format_value(result[name])) for name in IDENTITY if name in result]
    if "split" in result:
        rows.append(("split", str(result["split"])[:12]))
    if result.get("sizes"):
        rows.append(("sizes", ", ".join(f"{role} {size:,}" for role, size in result["sizes"].items())))
    if result.get("tuned"):
        rows.append(("tuned", ", ".join(f"{key}={value}" for key, value in result["tuned"].items())))
    if result.get("seconds"):
        rows.append(("seconds", ", ".join(f"{step} {seconds:.2f}" for step, seconds in result["seconds"].items())))
    if result.get("images_per_second"):
        rates = ", ".join(f"{step} {rate:,.0f} a second" for step, rate in result["images_per_second"].items())
        rows.append(("images", rates))
    if result.get("published_figure"):
        rows.append(("papers", describe_published(result)))
    return rows


def list_references(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of each ranking of texts as pairs of name and text; empty for data without judgements."""
    return [
        (REFERENCES.get(name, name), ", ".join(f"{figure} {format_value(value)}" for figure, value in figures.items()))
        for name, figures in (result.get("references") or {}).items()
    ]


def describe_published(result: Mapping[str, Any]) -> str:
    """Describe the metric that papers report on a data set: its tie-aware value, and that of a sort by distance."""
    name = result["published_figure"]
    stable = name.replace("mAP", "mAP_stable", 1)
    text = f"{name} {format_value(result['metrics'][name])}, tie-aware"
    if stable in result["metrics"]:
        text += f"; {stable} {format_value(result['metrics'][stable])}, with ties in database order"
    return text


def format_title(result: Mapping[str, Any]) -> str:
    """Return a title for tables and figures of a result, such as "itq · sbq, 64 bits, cifar10_gist"."""
    method = " · ".join(str(result[name]) for name in TITLE[:2] if name in result)
    bits = f"{result['bits']} bits" if "bits" in result else ""
    # Results with learnt codes must not be mistaken for results with encoded ones.
    searched = "database by learnt codes" if result.get("database_codes") == "learnt" else ""
    return ", ".join(part for part in (method, bits, str(result.get("data", "")), searched) if part)


def print_summary(result: Mapping[str, Any], folder: Path) -> None:
    """Print a result row, its warnings and the run's files on standard output.

    Args:
        result: as in `metrics.json`.
        folder: the run folder; if it is inside the working folder, its path is printed relative to it.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=escape(format_title(result)), title_justify="left", title_style="bold", header_style="bold")
    metrics = order_metrics(result)
    names, directions = tabulate_directions(result)
    if directions:
        table.add_column("direction")
        for name in names:
            table.add_column(escape(name), justify="right")
        for place, row in enumerate(directions):
            table.add_row(*map(escape, row), style="bold" if place == 0 else None)
        console.print(table)
        console.print(f"{len(metrics) - len(names) * len(directions)} more metrics in metrics.json")
        for name, value in list_bias(result):
            console.print(f"{name}: {escape(value)}")
    else:
        table.add_column("metric")
        table.add_column("value", justify="right")
        shown = [metric for metric in metrics if not is_comparison(metric[0])]
        for name, value in shown:
            table.add_row(escape(name), format_value(value), style="bold" if name in LEADING_METRICS else None)
        console.print(table)
        if len(shown) < len(metrics):
            console.print(f"{len(metrics) - len(shown)} more, for other tie orders and denominators, in metrics.json")
        for name, value in list_references(result):
            console.print(f"{name:26} {escape(value)}")
    for name, value in list_settings(result):
        if name not in TITLE:
            console.print(f"{name:8} {escape(value)}")
    if result.get("skipped_queries"):
        console.print(f"queries without a relevant item, left out: {result['skipped_queries']:,}")
    for line in result.get("warnings", ()):
        console.print(f"[yellow]warning:[/yellow] {escape(line)}")
    folder = shorten_path(folder)
    console.print(f"files    {escape(str(folder))}")
    for name, content in FILES:
        if (folder / name).exists():
            console.print(f"         {name:19}{content}")
    for run in sorted(folder.glob("wandb/offline-run-*")):
        console.print(f"W&B      wandb sync {escape(shlex.quote(str(run)))}")
