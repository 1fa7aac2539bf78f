"""A table of a sweep over methods of two views: scores in all directions, and modality bias."""

from typing import TYPE_CHECKING, Any

from deephash.report.summary import format_direction
from deephash.report.sweep_runs import BIAS, SETTING
from deephash.report.sweep_statistics import LINE, aggregate, format_line
from deephash.report.sweep_tables import format_setting
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars

GAP, AGREEMENT, CHANCE = f"{BIAS}gap", f"{BIAS}bit_agreement", f"{BIAS}chance_agreement"
OWN_SHARE = f"{BIAS}own_share/"


def format_views(runs: "polars.DataFrame", metric: str = "mAP") -> str:
    """Format a Markdown table of methods and lengths by direction, with measures of modality bias.

    Args:
        runs: as returned by `collect`.
        metric: metric in the cells of the directions. The direction in a name such as "image_to_text/mAP" is ignored.

    Returns:
        A table of means over seeds for each setting; empty if no run has two views.
    """
    kind = metric.rpartition("/")[2]
    directions = [name for name in runs.columns if name.endswith(f"/{kind}") and "_to_" in name.partition("/")[0]]
    if GAP not in runs.columns or not directions:
        return ""
    views = [name.removeprefix(OWN_SHARE) for name in runs.columns if name.startswith(OWN_SHARE)]
    titles = [format_direction(name.partition("/")[0]) for name in directions]
    header = ("method", "bits", *titles, "gap", f"own view, {' / '.join(views)}", "pairs agree (chance)")
    parts = []
    for setting, part in aggregate(runs).group_by(SETTING, maintain_order=True):
        rows = []
        for (*line, bits), group in part.group_by((*LINE, "bits"), maintain_order=True):
            means = dict(group.select("metric", "mean").rows())
            if GAP in means:
                rows.append((format_line(tuple(line)), bits, *_format_cells(means, directions, views)))
        if rows:
            table = markdown_table(header, rows, right=range(1, len(header)))
            parts.append(f"{kind} by direction: {format_setting(setting)}\n\n{table}")
    return "\n".join(parts)


def _format_cells(means: dict[str, float], directions: list[str], views: list[str]) -> list[Any]:
    scores = [f"{means[name]:.4f}" if name in means else "–" for name in directions]
    own = " / ".join(f"{means[OWN_SHARE + view]:.0%}" for view in views)
    return [*scores, f"{means[GAP]:.0%}", own, f"{means[AGREEMENT]:.0%} ({means[CHANCE]:.0%})"]
