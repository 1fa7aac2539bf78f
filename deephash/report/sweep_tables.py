"""A sweep as tables of methods × bits, for the terminal and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, aggregate, format_line
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars
    from rich.console import Group


INTERVAL = ("mean", "low", "high")


@dataclass(frozen=True)
class MethodsByBits:
    """The table of one setting.

    Args:
        setting: the setting in words.
        lengths: code lengths, ascending.
        lines: for each line its name, its number of seeds as text, and its cells by code length.
        best: code length → name of the line with the highest mean.
    """

    setting: str
    lengths: list[int]
    lines: list[tuple[str, str, dict[int, str]]]
    best: dict[int, str]


def format_setting(setting: tuple[Any, ...], cuts: bool = False) -> str:
    """Format a setting as "cifar10_gist, five_way, label truth", without parts that are None.

    Args:
        setting: values of the columns SETTING.
        cuts: whether to add the ranks at which metrics are cut. The names of the metrics contain them too, so they are
            needed only for settings that are equal otherwise.
    """
    data, protocol, truth, score, database_codes, k = setting
    parts = [data, protocol, truth and f"{truth} truth", score and f"{score} queries"]
    parts += [
        "database by learnt codes" if database_codes == "learnt" else None,
        f"cut at k = {k}" if cuts and k else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def format_settings(settings: Sequence[tuple[Any, ...]]) -> list[str]:
    """Format several settings as different texts."""
    plain = [format_setting(setting) for setting in settings]
    return [
        format_setting(setting, cuts=plain.count(words) > 1) for setting, words in zip(settings, plain, strict=True)
    ]


def format_interval(mean: float, low: float | None, high: float | None) -> str:
    """Format a mean with half its interval, such as "0.1712 ± 0.0021", or only the mean without an interval."""
    return f"{mean:.4f}" if low is None or high is None else f"{mean:.4f} ± {(high - low) / 2:.4f}"


def tabulate_methods(runs: "polars.DataFrame", metric: str = "mAP") -> list[MethodsByBits]:
    """Return the table of each setting.

    Args:
        runs: as returned by `collect`.
        metric: metric in the cells.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    import polars

    by_setting = list(aggregate(runs, metric).group_by(SETTING, maintain_order=True))
    titles = format_settings([setting for setting, _ in by_setting])
    tables = []
    for title, (_, part) in zip(titles, by_setting, strict=True):
        lines = []
        for line, group in part.group_by(LINE, maintain_order=True):
            cells = {bits: format_interval(*values) for bits, *values in group.select("bits", *INTERVAL).rows()}
            seeds = sorted(set(group["seeds"].to_list()))
            counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
            lines.append((format_line(line), counts, cells))
        lengths = sorted(set(part["bits"].to_list()))
        best = {}
        for length in lengths:
            top = part.filter(polars.col("bits") == length).sort("mean", descending=True, maintain_order=True)
            best[length] = format_line(top.select(LINE).row(0))
        tables.append(MethodsByBits(title, lengths, lines, best))
    return tables


def format_column_title(over: str, value: int) -> str:
    """Return the title of a column, such as "16 bits" or "train 1000"."""
    return f"{value} bits" if over == "bits" else f"{over.rpartition('.')[2]} {value}"


def build_sweep_table(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> "Group":
    """Build a terminal table of methods × bits for each setting, with the best of each code length in bold.

    Args:
        runs: as returned by `collect`.
        metric: metric in the cells.
        over: meaning of the columns, as passed to `collect`.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    tables = []
    for methods in tabulate_methods(runs, metric):
        title = escape(f"{metric}: {methods.setting}")
        table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
        # Names do not wrap; in a narrow terminal, intervals wrap below their means.
        table.add_column("method", min_width=max(len(name) for name, _, _ in methods.lines))
        table.add_column("seeds", justify="right", min_width=5)
        for length in methods.lengths:
            table.add_column(format_column_title(over, length), justify="right", min_width=7)
        for name, seeds, cells in methods.lines:
            shown = {length: cells.get(length, "–").replace("± ", "±") for length in methods.lengths}
            styled = (f"[bold]{c}[/bold]" if methods.best[length] == name else c for length, c in shown.items())
            table.add_row(escape(name), seeds, *styled)
        tables.append(table)
    return Group(*tables)


def format_sweep(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> str:
    """Format a Markdown table of methods × bits for each setting, with the best of each code length in bold.

    The arguments are those of `build_sweep_table`.
    """
    parts = []
    for methods in tabulate_methods(runs, metric):
        rows = []
        for name, seeds, cells in methods.lines:
            shown = {length: cells.get(length, "–") for length in methods.lengths}
            rows.append((name, seeds, *(f"**{c}**" if methods.best[n] == name else c for n, c in shown.items())))
        header = ("method", "seeds", *(format_column_title(over, length) for length in methods.lengths))
        parts.append(f"{metric}: {methods.setting}\n\n{markdown_table(header, rows, right=range(1, len(header)))}")
    return "\n".join(parts)


def format_grid(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> str:
    """Format a Markdown table of projections × quantisers for each setting and code length with several of both.

    Args:
        runs: as returned by `collect`.
        metric: metric in the cells. The best of each row is bold.
        over: number that distinguishes tables of one setting, as passed to `collect`.

    Returns:
        The tables; empty if no setting has several projections and several quantisers.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    means = aggregate(runs, metric)
    settings = means.select(SETTING).unique(maintain_order=True).rows()
    titles = dict(zip(settings, format_settings(settings), strict=True))
    parts = []
    for (*setting, length), part in means.group_by((*SETTING, "bits"), maintain_order=True):
        quantizers = part["quantizer"].unique(maintain_order=True).to_list()
        cells = {(format_line((m, None, s)), q): values for m, q, s, *values in part.select(*LINE, *INTERVAL).rows()}
        names = list(dict.fromkeys(name for name, _ in cells))
        if len(names) < 2 or len(quantizers) < 2:
            continue
        rows = []
        for name in names:
            best = max(cells[name, q][0] for q in quantizers if (name, q) in cells)
            shown = [format_interval(*cells[name, q]) if (name, q) in cells else "–" for q in quantizers]
            is_best = [(name, q) in cells and cells[name, q][0] == best for q in quantizers]
            rows.append((name, *(f"**{c}**" if bold else c for c, bold in zip(shown, is_best, strict=True))))
        table = markdown_table(("projection", *map(str, quantizers)), rows, right=range(1, len(quantizers) + 1))
        parts.append(f"{metric}, {format_column_title(over, length)}: {titles[tuple(setting)]}\n\n{table}")
    return "\n".join(parts)
