"""A sweep as tables of methods × bits, for the terminal and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, aggregate, done_runs, line_name
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars
    from rich.console import Group


INTERVAL = ("mean", "low", "high")


@dataclass(frozen=True)
class MethodsByBits:
    """The table of one setting.

    Args:
        setting: values of the columns SETTING.
        lengths: code lengths, rising.
        lines: for each line its name, its number of seeds as text, and its cells by code length.
        best: code length → the name of the line with the highest mean.
    """

    setting: tuple[Any, ...]
    lengths: list[int]
    lines: list[tuple[str, str, dict[int, str]]]
    best: dict[int, str]


def setting_text(setting: tuple[Any, ...], cuts: bool = False) -> str:
    """A setting in words, as "cifar10_gist, five_way, label truth"; parts that are None are left out.

    Args:
        setting: values of the columns SETTING.
        cuts: whether to say which ranks runs were cut at, which their metrics' names say: for settings that differ in
            nothing else.
    """
    data, protocol, truth, score, database_codes, k = setting
    parts = [data, protocol, truth and f"{truth} truth", score and f"{score} queries"]
    parts += [
        "database by learnt codes" if database_codes == "learnt" else None,
        f"cut at k = {k}" if cuts and k else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def setting_texts(settings: Sequence[tuple[Any, ...]]) -> list[str]:
    """Several settings in words, each unlike the others."""
    plain = [setting_text(setting) for setting in settings]
    return [setting_text(setting, cuts=plain.count(words) > 1) for setting, words in zip(settings, plain, strict=True)]


def cell(mean: float, low: float | None, high: float | None) -> str:
    """A mean with half its interval, as "0.1712 ± 0.0021"; the mean alone where there is no interval."""
    return f"{mean:.4f}" if low is None or high is None else f"{mean:.4f} ± {(high - low) / 2:.4f}"


def methods_by_bits(runs: "polars.DataFrame", metric: str = "mAP") -> list[MethodsByBits]:
    """The table of each setting.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done_runs(runs, metric)
    means = aggregate(runs).filter(polars.col("metric") == metric)
    tables = []
    for setting, part in means.group_by(SETTING, maintain_order=True):
        lines = []
        for line, group in part.group_by(LINE, maintain_order=True):
            cells = {bits: cell(*values) for bits, *values in group.select("bits", "mean", "low", "high").rows()}
            seeds = sorted(set(group["seeds"].to_list()))
            counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]}–{seeds[-1]}"
            lines.append((line_name(line), counts, cells))
        lengths = sorted(set(part["bits"].to_list()))
        best = {}
        for length in lengths:
            top = part.filter(polars.col("bits") == length).sort("mean", descending=True, maintain_order=True)
            best[length] = line_name(top.select(LINE).row(0))
        tables.append(MethodsByBits(setting, lengths, lines, best))
    return tables


def column_title(over: str, value: int) -> str:
    """The title of a column, as "16 bits" or "train 1000"."""
    return f"{value} bits" if over == "bits" else f"{over.rpartition('.')[2]} {value}"


def sweep_table(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> "Group":
    """Methods × bits for the terminal, a table for each setting; the best of each code length is bold.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.
        over: what the columns are, as `collect` took it.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    tables = []
    by_setting = methods_by_bits(runs, metric)
    for found, words in zip(by_setting, setting_texts([found.setting for found in by_setting]), strict=True):
        title = f"{metric}: {words}"
        table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
        # Names stay whole; where the terminal is narrow, the interval goes under its mean.
        table.add_column("method", min_width=max(len(name) for name, _, _ in found.lines))
        table.add_column("seeds", justify="right", min_width=5)
        for length in found.lengths:
            table.add_column(column_title(over, length), justify="right", min_width=7)
        for name, seeds, cells in found.lines:
            shown = {length: cells.get(length, "–").replace("± ", "±") for length in found.lengths}
            styled = (f"[bold]{c}[/bold]" if found.best[length] == name else c for length, c in shown.items())
            table.add_row(escape(name), seeds, *styled)
        tables.append(table)
    return Group(*tables)


def sweep_markdown(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> str:
    """Methods × bits as Markdown, a table for each setting; the best of each code length is bold.

    Args:
        runs: as `collect` gives.
        metric: what the cells show.
        over: what the columns are, as `collect` took it.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    parts = []
    by_setting = methods_by_bits(runs, metric)
    for found, words in zip(by_setting, setting_texts([found.setting for found in by_setting]), strict=True):
        rows = []
        for name, seeds, cells in found.lines:
            shown = {length: cells.get(length, "–") for length in found.lengths}
            rows.append((name, seeds, *(f"**{c}**" if found.best[n] == name else c for n, c in shown.items())))
        header = ("method", "seeds", *(column_title(over, length) for length in found.lengths))
        table = markdown_table(header, rows, right=range(1, len(header)))
        parts.append(f"{metric}: {words}\n\n{table}")
    return "\n".join(parts)


def grid_markdown(runs: "polars.DataFrame", metric: str = "mAP", over: str = "bits") -> str:
    """Projections × quantisers as Markdown, a table for each setting and code length that has several of both.

    Args:
        runs: as `collect` gives.
        metric: what the cells show; the best of each row is bold.
        over: what tells tables of one setting apart, as `collect` took it.

    Returns:
        The tables; empty where no setting has several projections and several quantisers.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done_runs(runs, metric)
    means = aggregate(runs).filter(polars.col("metric") == metric)
    settings = means.select(SETTING).unique(maintain_order=True).rows()
    words = dict(zip(settings, setting_texts(settings), strict=True))
    parts = []
    for (*setting, length), part in means.group_by((*SETTING, "bits"), maintain_order=True):
        quantizers = part["quantizer"].unique(maintain_order=True).to_list()
        cells = {(line_name((m, None, s)), q): values for m, q, s, *values in part.select(*LINE, *INTERVAL).rows()}
        names = list(dict.fromkeys(name for name, _ in cells))
        if len(names) < 2 or len(quantizers) < 2:
            continue
        rows = []
        for name in names:
            best = max(cells[name, q][0] for q in quantizers if (name, q) in cells)
            shown = [cell(*cells[name, q]) if (name, q) in cells else "–" for q in quantizers]
            is_best = [(name, q) in cells and cells[name, q][0] == best for q in quantizers]
            rows.append((name, *(f"**{c}**" if bold else c for c, bold in zip(shown, is_best, strict=True))))
        table = markdown_table(("projection", *map(str, quantizers)), rows, right=range(1, len(quantizers) + 1))
        title = f"{metric}, {column_title(over, length)}: {words[tuple(setting)]}"
        parts.append(f"{title}\n\n{table}")
    return "\n".join(parts)
