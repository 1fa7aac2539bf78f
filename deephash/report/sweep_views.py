"""A sweep as a table of methods × bits and as a plot of a metric against bits."""

from typing import TYPE_CHECKING, Any

from deephash.report.drawing import LINE_COLOURS, MARKERS, new_figure, paper_style, plain_axes
from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, aggregate, done_runs, line_name
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from rich.console import Group

LINE_STYLES = ("-", "--", ":", "-.")
# Panels side by side, and inches of one.
PANELS, PANEL_WIDTH, PANEL_HEIGHT = 2, 3.6, 2.9


def setting_text(setting: tuple[Any, ...]) -> str:
    """A setting in words, as "cifar10_gist, five_way, label truth"."""
    data, protocol, truth, score, k = setting
    parts = [data, protocol, truth and f"{truth} truth", score and f"{score} queries", k and f"k = {k}"]
    return ", ".join(str(part) for part in parts if part)


def cell(mean: float, low: float | None, high: float | None) -> str:
    """A mean with half its interval, as "0.1712 ± 0.0021"; the mean alone where there is no interval."""
    return f"{mean:.4f}" if low is None or high is None else f"{mean:.4f} ± {(high - low) / 2:.4f}"


def sweep_cells(
    runs: "polars.DataFrame", metric: str = "mAP"
) -> list[tuple[tuple[Any, ...], list[int], list[tuple[str, str, dict[int, str]]], dict[int, str]]]:
    """The table of each setting: methods × bits.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.

    Returns:
        For each setting: the setting, its code lengths, its lines (name, number of seeds as text, code length →
        cell), and code length → the name of the line with the highest mean.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done_runs(runs, metric)
    means = aggregate(runs).filter(polars.col("metric") == metric)
    tables = []
    for setting, part in means.group_by(SETTING, maintain_order=True):
        lengths = sorted(set(part["bits"].to_list()))
        lines, best = [], {}
        for line, group in part.group_by(LINE, maintain_order=True):
            cells = {bits: cell(*values) for bits, *values in group.select("bits", "mean", "low", "high").rows()}
            seeds = sorted(set(group["seeds"].to_list()))
            counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
            lines.append((line_name(line), counts, cells))
        for length in lengths:
            top = part.filter(polars.col("bits") == length).sort("mean", descending=True, maintain_order=True)
            best[length] = line_name(top.select(LINE).row(0))
        tables.append((setting, lengths, lines, best))
    return tables


def sweep_table(runs: "polars.DataFrame", metric: str = "mAP") -> "Group":
    """Methods × bits for the terminal, a table for each setting; the best of each code length is bold.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    tables = []
    for setting, lengths, lines, best in sweep_cells(runs, metric):
        title = f"{metric}: {setting_text(setting)}"
        table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
        table.add_column("method")
        table.add_column("seeds", justify="right")
        for length in lengths:
            table.add_column(f"{length} bits", justify="right", no_wrap=True)
        for name, seeds, cells in lines:
            shown = (f"[bold]{cells[b]}[/bold]" if best[b] == name else cells.get(b, "–") for b in lengths)
            table.add_row(escape(name), seeds, *shown)
        tables.append(table)
    return Group(*tables)


def sweep_markdown(runs: "polars.DataFrame", metric: str = "mAP") -> str:
    """Methods × bits as Markdown, a table for each setting; the best of each code length is bold.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    parts = []
    for setting, lengths, lines, best in sweep_cells(runs, metric):
        rows = [
            (name, seeds, *(f"**{cells[b]}**" if best[b] == name else cells.get(b, "–") for b in lengths))
            for name, seeds, cells in lines
        ]
        header = ("method", "seeds", *(f"{length} bits" for length in lengths))
        right = range(1, len(header))
        parts.append(f"{metric}: {setting_text(setting)}\n\n" + markdown_table(header, rows, right=right))
    return "\n".join(parts)


def sweep_figure(runs: "polars.DataFrame", metric: str = "mAP") -> Any:
    """A metric against code length: a line for each method, its 95 % interval as a band, a panel for each setting.

    Args:
        runs: as `collect` gives.
        metric: the vertical axis.

    Returns:
        A matplotlib figure whose horizontal axes are logarithmic with base 2.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done_runs(runs, metric)
    means = aggregate(runs).filter(polars.col("metric") == metric)
    settings = means.select(SETTING).unique(maintain_order=True).rows()
    lines = means.select(LINE).unique(maintain_order=True).rows()
    columns = min(PANELS, len(settings))
    rows = -(-len(settings) // columns)
    with paper_style():
        figure = new_figure(columns * PANEL_WIDTH + 1.4, rows * PANEL_HEIGHT)
        panels = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for panel, setting in zip(panels.flat, settings, strict=False):
            part = means.filter(*_equal(SETTING, setting))
            lengths = sorted(set(part["bits"].to_list()))
            for place, line in enumerate(lines):
                points = part.filter(*_equal(LINE, line)).sort("bits").select("bits", "mean", "low", "high").rows()
                if points:
                    handles[line_name(line)] = _line(panel, place, points)
            _bits_axis(panel, lengths)
            panel.set_ylabel(metric)
            panel.set_title(setting_text(setting), fontsize=8, wrap=True)
        for unused in panels.flat[len(settings) :]:
            unused.set_visible(False)
        figure.legend(handles.values(), handles.keys(), loc="outside right center")
    return figure


def _equal(columns: tuple[str, ...], values: tuple[Any, ...]) -> "list[polars.Expr]":
    """Conditions that each column holds its value, or nothing where the value is None."""
    import polars

    return [polars.col(name).eq_missing(polars.lit(value)) for name, value in zip(columns, values, strict=True)]


def _line(axes: "Axes", place: int, points: list[tuple[int, float, float | None, float | None]]) -> Any:
    """One method's line and band, with the colour, marker and dashes of its place."""
    colour, marker = LINE_COLOURS[place % len(LINE_COLOURS)], MARKERS[place % len(MARKERS)]
    dashes = LINE_STYLES[place // len(LINE_COLOURS) % len(LINE_STYLES)]
    bits, means = [point[0] for point in points], [point[1] for point in points]
    low = [point[1] if point[2] is None else point[2] for point in points]
    high = [point[1] if point[3] is None else point[3] for point in points]
    if len(points) == 1:
        # A band of one length has no width to be seen.
        below, above = [means[0] - low[0]], [high[0] - means[0]]
        axes.errorbar(bits, means, yerr=(below, above), color=colour, capsize=3, linewidth=1)
    else:
        axes.fill_between(bits, low, high, color=colour, alpha=0.18, linewidth=0)
    return axes.plot(bits, means, color=colour, marker=marker, linestyle=dashes)[0]


def _bits_axis(axes: "Axes", lengths: list[int]) -> None:
    plain_axes(axes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xticks([], minor=True)
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)
    axes.set_xlabel("Bits")
