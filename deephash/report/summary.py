"""What a run came to, on one page: for the terminal, and as Markdown."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deephash.report.tables import IDENTITY, markdown_table, text

# The figures that papers compare come first; the others follow in the order of the row.
LEADING_METRICS = ("mAP", "AUPRC_micro", "AUPRC_macro")
# What the title of a result says.
TITLE = ("method", "quantizer", "bits", "data")
# Parts of the names of metrics that exist to be set beside published code: other tie orders, other denominators.
COMPARISON_MARKS = ("_best", "_worst", "_stable", "/")
# Files of a run's folder, in the order in which a reader wants them.
FILES = (
    ("metrics.json", "the result row"),
    ("per_query.parquet", "each query's scores"),
    ("pr_curve.png", "precision-recall curve"),
    ("pr_curve.json", "the precision-recall curve's points, as numbers"),
    ("bits.png", "balance and correlation of the bits"),
    ("neighbours.png", "sample queries with their neighbours"),
    ("neighbours.html", "sample queries of each view with what they found in the other"),
    ("stream.png", "mAP by items seen, and what was re-encoded"),
    ("learning_curve.png", "validation score and losses by epoch"),
    ("history.json", "validation score and losses by epoch, as numbers"),
    ("hasher", "the hasher"),
    ("start", "the hasher as fitted, where joint training began"),
    ("split.npz", "rows of every part"),
    ("config.yaml", "the resolved config"),
    ("tune.json", "values tried on validation queries"),
    ("environment.json", "versions, machine, state of the source"),
)


def ordered_metrics(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The metrics of a result row, those that papers compare first."""
    metrics = dict(result.get("metrics", {}))
    leading = [name for name in LEADING_METRICS if name in metrics]
    return [(name, metrics[name]) for name in (*leading, *(name for name in metrics if name not in leading))]


def is_comparison(metric: str) -> bool:
    """Whether a metric is there for comparison with published code, and not the figure to quote."""
    # Of two views a metric follows the name of its direction: image_to_text/mAP.
    direction, _, own = metric.partition("/")
    return any(mark in (own if "_to_" in direction else metric) for mark in COMPARISON_MARKS)


def by_direction(result: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The figures that papers compare, a row for each direction of two views, the mean across views first.

    Args:
        result: as in `metrics.json`.

    Returns:
        Names of the metrics, and rows of a direction's name and its figures as text; no rows where there is one view.
    """
    metrics = dict(result.get("metrics", {}))
    directions = list(dict.fromkeys(name.partition("/")[0] for name in metrics if "_to_" in name.partition("/")[0]))
    own = [name for name, _ in ordered_metrics(result) if "_to_" not in name and not is_comparison(name)]
    names = [name for name in own if name in LEADING_METRICS or name.startswith("mAP@")]
    rows = [(title_of(d), *(text(metrics.get(f"{d}/{name}")) for name in names)) for d in directions]
    return names, [("mean across views", *(text(metrics[name]) for name in names)), *rows] if rows else []


def title_of(direction: str) -> str:
    """A direction as it is read: image_to_text as image → text."""
    return direction.replace("_to_", " → ")


def bias_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Modality bias in words, as name and text; nothing where there is one view."""
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
        ("bits that a pair agrees in", agreement),
    ]


def setting_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the result is a result of: identity, split, sizes and seconds, as name and text."""
    rows = [(name, text(result[name])) for name in IDENTITY if name in result]
    if "split" in result:
        rows.append(("split", str(result["split"])[:12]))
    if result.get("sizes"):
        rows.append(("sizes", ", ".join(f"{role} {size:,}" for role, size in result["sizes"].items())))
    if result.get("tuned"):
        rows.append(("tuned", ", ".join(f"{key}={value}" for key, value in result["tuned"].items())))
    if result.get("seconds"):
        rows.append(("seconds", ", ".join(f"{step} {seconds:.2f}" for step, seconds in result["seconds"].items())))
    return rows


def result_title(result: Mapping[str, Any]) -> str:
    """A title for tables and figures of a result, as "itq · sbq, 64 bits, cifar10_gist"."""
    method = " · ".join(str(result[name]) for name in TITLE[:2] if name in result)
    bits = f"{result['bits']} bits" if "bits" in result else ""
    # A figure of this protocol is never to be read as one of the other.
    searched = "database by learnt codes" if result.get("database_codes") == "learnt" else ""
    return ", ".join(part for part in (method, bits, str(result.get("data", "")), searched) if part)


def summary_markdown(result: Mapping[str, Any], folder: Path | None = None) -> str:
    """A result row as a Markdown page.

    Args:
        result: as in `metrics.json`.
        folder: where the run's files are, named at the end; None leaves it out.
    """
    parts = [f"# {result_title(result)}\n"]
    parts.append(markdown_table(("setting", "value"), setting_rows(result)))
    metrics = ordered_metrics(result)
    if result.get("skipped_queries"):
        metrics.append(("queries without a relevant item", str(result["skipped_queries"])))
    names, directions = by_direction(result)
    if directions:
        parts.append(markdown_table(("direction", *names), directions, right=range(1, len(names) + 1)))
        parts.append(markdown_table(("modality bias", "value"), bias_rows(result)))
        metrics = [(name, value) for name, value in metrics if "_to_" not in name and name not in names]
    parts.append(markdown_table(("metric", "value"), metrics, right=(1,)))
    if result.get("warnings"):
        parts.append("Warnings:\n\n" + "".join(f"- {line}\n" for line in result["warnings"]))
    if folder is not None:
        parts.append(f"Files: `{folder}`\n")
    return "\n".join(parts)


def print_summary(result: Mapping[str, Any], folder: Path) -> None:
    """Print a result row on standard output, its warnings, and where the run's files are.

    Args:
        result: as in `metrics.json`.
        folder: the run's folder.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=escape(result_title(result)), title_justify="left", title_style="bold", header_style="bold")
    metrics = ordered_metrics(result)
    names, directions = by_direction(result)
    if directions:
        table.add_column("direction")
        for name in names:
            table.add_column(escape(name), justify="right")
        for place, row in enumerate(directions):
            table.add_row(*map(escape, row), style="bold" if place == 0 else None)
        console.print(table)
        console.print(f"{len(metrics) - len(names) * len(directions)} more figures in metrics.json")
        for name, value in bias_rows(result):
            console.print(f"{name}: {escape(value)}")
    else:
        table.add_column("metric")
        table.add_column("value", justify="right")
        shown = [metric for metric in metrics if not is_comparison(metric[0])]
        for name, value in shown:
            table.add_row(escape(name), text(value), style="bold" if name in LEADING_METRICS else None)
        console.print(table)
        if len(shown) < len(metrics):
            console.print(f"{len(metrics) - len(shown)} more, for other tie orders and denominators, in metrics.json")
    for name, value in setting_rows(result):
        if name not in TITLE:
            console.print(f"{name:8} {escape(value)}")
    if result.get("skipped_queries"):
        console.print(f"queries without a relevant item, left out: {result['skipped_queries']:,}")
    for line in result.get("warnings", ()):
        console.print(f"[yellow]warning:[/yellow] {escape(line)}")
    console.print(f"files    {escape(str(folder))}")
    for name, content in FILES:
        if (folder / name).exists():
            console.print(f"         {name:19}{content}")
    for run in sorted(folder.glob("wandb/offline-run-*")):
        console.print(f"W&B      wandb sync {escape(shlex.quote(str(run)))}")
