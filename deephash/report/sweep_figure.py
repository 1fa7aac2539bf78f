"""A sweep as a plot of a metric against code length."""

from typing import TYPE_CHECKING, Any

from deephash.report.drawing import LINE_COLOURS, MARKERS, new_figure, paper_style, plain_axes
from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, aggregate, done_runs, line_name
from deephash.report.sweep_tables import setting_text

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_STYLES = ("-", "--", ":", "-.")
AXIS_TITLES = {"bits": "Bits", "protocol.train": "Training items"}
# Panels side by side, and inches of one.
PANELS, PANEL_WIDTH, PANEL_HEIGHT = 2, 3.6, 2.9
# Code lengths nearer than this ratio would have their numbers run into each other.
NEAREST_TICKS = 1.2


def sweep_figure(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> "Figure":
    """A metric against code length, or another number: a line for each method, a panel for each setting.

    Bands are 95 % intervals.

    Args:
        runs: as `collect` gives.
        metric: the vertical axis.
        over: the horizontal axis, as `collect` took it.

    Returns:
        A matplotlib figure whose horizontal axes are logarithmic with base 2. A panel's title names its setting; of
        several panels, what they share stands above them all.

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
        shared, titles = setting_titles(settings)
        for panel, setting, title in zip(panels.flat, settings, titles, strict=False):
            part = means.filter(*_equal(SETTING, setting))
            for place, line in enumerate(lines):
                points = part.filter(*_equal(LINE, line)).sort("bits").select("bits", "mean", "low", "high").rows()
                if points:
                    handles[line_name(line)] = _line(panel, place, points)
            _axis(panel, sorted(set(part["bits"].to_list())), over)
            panel.set_ylabel(metric)
            panel.set_title(title, fontsize=8)
        if shared:
            figure.suptitle(shared, fontsize=9)
        for unused in panels.flat[len(settings) :]:
            unused.set_visible(False)
        figure.legend([handles[name] for name in handles], list(handles), loc="outside right center")
    return figure


def setting_titles(settings: list[tuple[Any, ...]]) -> tuple[str, list[str]]:
    """What all settings share, and what is each one's own; a single setting is its own alone."""
    if len(settings) == 1:
        return "", [setting_text(settings[0])]
    common = [len(set(values)) == 1 for values in zip(*settings, strict=True)]
    shared = tuple(value if same else None for value, same in zip(settings[0], common, strict=True))
    own = [tuple(None if same else value for value, same in zip(s, common, strict=True)) for s in settings]
    return setting_text(shared), [setting_text(setting, cuts=True) for setting in own]


def _equal(columns: tuple[str, ...], values: tuple[Any, ...]) -> "list[polars.Expr]":
    """Conditions that each column holds its value, or nothing where the value is None."""
    import polars

    return [polars.col(name).eq_missing(polars.lit(value)) for name, value in zip(columns, values, strict=True)]


def _line(axes: "Axes", place: int, points: list[tuple[Any, ...]]) -> Any:
    """One method's line and band, from (bits, mean, low, high); `place` gives its colour, marker and dashes."""
    turn, position = divmod(place, len(LINE_COLOURS))
    # A colour that comes again has another marker and other dashes.
    colour, marker = LINE_COLOURS[position], MARKERS[(position + 2 * turn) % len(MARKERS)]
    dashes = LINE_STYLES[turn % len(LINE_STYLES)]
    bits, means = [point[0] for point in points], [point[1] for point in points]
    low = [mean if low is None else low for _, mean, low, _ in points]
    high = [mean if high is None else high for _, mean, _, high in points]
    if len(points) == 1:
        # A band of one length has no width to be seen.
        axes.errorbar(bits, means, yerr=([means[0] - low[0]], [high[0] - means[0]]), color=colour, capsize=3)
    else:
        axes.fill_between(bits, low, high, color=colour, alpha=0.18, linewidth=0)
    return axes.plot(bits, means, color=colour, marker=marker, linestyle=dashes)[0]


def _axis(axes: "Axes", lengths: list[int], over: str) -> None:
    plain_axes(axes)
    axes.set_xscale("log", base=2)
    ticks: list[int] = []
    for length in lengths:
        if not ticks or length >= NEAREST_TICKS * ticks[-1]:
            ticks.append(length)
    axes.set_xticks(ticks, [str(length) for length in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(lengths[0] / 1.15, lengths[-1] * 1.15)
    axes.set_xlabel(AXIS_TITLES.get(over, over))
