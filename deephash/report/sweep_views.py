"""A sweep over methods of two views as one table: all directions, and the signs of modality bias."""

from typing import TYPE_CHECKING, Any

from deephash.report.sweep_runs import BIAS, SETTING
from deephash.report.sweep_statistics import LINE, aggregate, line_name
from deephash.report.sweep_tables import setting_text
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars

GAP, AGREEMENT, CHANCE = f"{BIAS}gap", f"{BIAS}bit_agreement", f"{BIAS}chance_agreement"
OWN_SHARE = f"{BIAS}own_share/"


def views_markdown(runs: "polars.DataFrame", metric: str = "mAP") -> str:
    """Methods and lengths by direction, with the gap, each view's crowding and how far pairs agree, as Markdown.

    Args:
        runs: as `collect` gives.
        metric: what the directions' cells show; where it names a direction, as "image_to_text/mAP", what follows.

    Returns:
        A table for each setting, means over seeds; empty where no run has two views.
    """
    kind = metric.rpartition("/")[2]
    directions = [name for name in runs.columns if name.endswith(f"/{kind}") and "_to_" in name.partition("/")[0]]
    if GAP not in runs.columns or not directions:
        return ""
    views = [name.removeprefix(OWN_SHARE) for name in runs.columns if name.startswith(OWN_SHARE)]
    titles = [name.partition("/")[0].replace("_to_", "→") for name in directions]
    header = ("method", "bits", *titles, "gap", f"own view, {' / '.join(views)}", "pairs agree (chance)")
    parts = []
    for setting, part in aggregate(runs).group_by(SETTING, maintain_order=True):
        rows = []
        for (*line, bits), group in part.group_by((*LINE, "bits"), maintain_order=True):
            means = dict(group.select("metric", "mean").rows())
            if GAP in means:
                rows.append((line_name(tuple(line)), bits, *_cells(means, directions, views)))
        if rows:
            table = markdown_table(header, rows, right=range(1, len(header)))
            parts.append(f"{kind} by direction: {setting_text(setting)}\n\n{table}")
    return "\n".join(parts)


def _cells(means: dict[str, float], directions: list[str], views: list[str]) -> list[Any]:
    scores = [f"{means[name]:.4f}" if name in means else "–" for name in directions]
    own = " / ".join(f"{means[OWN_SHARE + view]:.0%}" for view in views)
    return [*scores, f"{means[GAP]:.0%}", own, f"{means[AGREEMENT]:.0%} ({means[CHANCE]:.0%})"]
