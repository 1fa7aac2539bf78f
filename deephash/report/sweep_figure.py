"""A plot of a sweep: a metric against code length."""

from typing import TYPE_CHECKING, Any

from deephash.report.drawing import LINE_COLOURS, MARKERS, new_figure, paper_style, plain_axes
from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, aggregate, format_line
from deephash.report.sweep_tables import format_setting

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_STYLES = ("-", "--", ":", "-.")
AXIS_TITLES = {"bits": "Bits", "protocol.train": "Training items"}
# Panels per row, and their size in inches.
PANELS, PANEL_WIDTH, PANEL_HEIGHT = 2, 3.6, 2.9
# Tick labels of code lengths closer than this ratio would overlap.
MIN_TICK_RATIO = 1.2


def draw_sweep(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> "Figure":
    """Draw a metric against code length or another number, with a line per method and a panel per setting.

    Bands are 95 % intervals.

    Args:
        runs: as returned by `collect`.
        metric: metric on the vertical axis.
        over: number on the horizontal axis, as passed to `collect`.

    Returns:
        A matplotlib figure whose horizontal axes are logarithmic with base 2. The title of a panel names its setting;
        the title above several panels names the values that their settings share.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    means = aggregate(runs, metric)
    settings = means.select(SETTING).unique(maintain_order=True).rows()
    lines = means.select(LINE).unique(maintain_order=True).rows()
    columns = min(PANELS, len(settings))
    rows = -(-len(settings) // columns)
    with paper_style():
        figure = new_figure(columns * PANEL_WIDTH + 1.4, rows * PANEL_HEIGHT)
        panels = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        shared, titles = split_setting_titles(settings)
        for panel, setting, title in zip(panels.flat, settings, titles, strict=False):
            part = means.filter(*_match(SETTING, setting))
            for place, line in enumerate(lines):
                points = part.filter(*_match(LINE, line)).sort("bits").select("bits", "mean", "low", "high").rows()
                if points:
                    handles[format_line(line)] = _draw_line(panel, place, points)
            _set_axis(panel, sorted(set(part["bits"].to_list())), over)
            panel.set_ylabel(metric)
            panel.set_title(title, fontsize=8)
        if shared:
            figure.suptitle(shared, fontsize=9)
        for unused in panels.flat[len(settings) :]:
            unused.set_visible(False)
        figure.legend([handles[name] for name in handles], list(handles), loc="outside right center")
    return figure


def split_setting_titles(settings: list[tuple[Any, ...]]) -> tuple[str, list[str]]:
    """Return a title of the values that all settings share, and a title of the other values of each."""
    if len(settings) == 1:
        return "", [format_setting(settings[0])]
    common = [len(set(values)) == 1 for values in zip(*settings, strict=True)]
    shared = tuple(value if same else None for value, same in zip(settings[0], common, strict=True))
    rest = [tuple(None if same else value for value, same in zip(s, common, strict=True)) for s in settings]
    return format_setting(shared), [format_setting(setting, cuts=True) for setting in rest]


def _match(columns: tuple[str, ...], values: tuple[Any, ...]) -> "list[polars.Expr]":
    """Return the conditions that each column equals its value, or is null if the value is None."""
    import polars

    return [polars.col(name).eq_missing(polars.lit(value)) for name, value in zip(columns, values, strict=True)]


def _draw_line(axes: "Axes", place: int, points: list[tuple[Any, ...]]) -> Any:
    """Draw the line and band of a method from (bits, mean, low, high), styled by its place among the lines."""
    turn, position = divmod(place, len(LINE_COLOURS))
    # A repeated colour has another marker and other dashes.
    colour, marker = LINE_COLOURS[position], MARKERS[(position + 2 * turn) % len(MARKERS)]
    dashes = LINE_STYLES[turn % len(LINE_STYLES)]
    bits, means = [point[0] for point in points], [point[1] for point in points]
    low = [mean if low is None else low for _, mean, low, _ in points]
    high = [mean if high is None else high for _, mean, _, high in points]
    if len(points) == 1:
        # A band over one length would have no width.
        axes.errorbar(bits, means, yerr=([means[0] - low[0]], [high[0] - means[0]]), color=colour, capsize=3)
    else:
        axes.fill_between(bits, low, high, color=colour, alpha=0.18, linewidth=0)
    return axes.plot(bits, means, color=colour, marker=marker, linestyle=dashes)[0]


def _set_axis(axes: "Axes", lengths: list[int], over: str) -> None:
    plain_axes(axes)
    axes.set_xscale("log", base=2)
    ticks: list[int] = []
    for length in lengths:
        if not ticks or length >= MIN_TICK_RATIO * ticks[-1]:
            ticks.append(length)
    axes.set_xticks(ticks, [str(length) for length in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)
    axes.set_xlabel(AXIS_TITLES.get(over, over))
