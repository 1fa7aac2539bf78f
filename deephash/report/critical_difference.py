"""Mean ranks of the methods of a sweep, tests between them, and the critical-difference diagram.

The diagram follows J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006. Pairs are
compared by Wilcoxon's signed-rank test under Holm's correction instead of Nemenyi's test, after Benavoli et al., JMLR
2016.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.metrics.confidence import wilcoxon
from deephash.report.drawing import BLACK, LINE_COLOURS, new_figure, paper_style
from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, format_line, holm, select_done_runs
from deephash.report.sweep_tables import format_setting
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Friedman's test needs at least three lines, the rows of a sweep's table. No signed-rank test over fewer than six
# blocks, the draws that all lines share, can give p < .05.
MIN_LINES, MIN_BLOCKS = 3, 6
# More names do not fit beside one axis, so projections and quantisers are then compared separately.
MAX_LINES = 30
LEVEL = 0.05
# Columns that a diagram compares: those of a line of the sweep's table, or of one of its two parts.
PARTS = {"lines": LINE, "projections": ("method", "settings"), "quantisers": ("quantizer",)}


@dataclass(frozen=True)
class Ranking:
    """The ranks of one setting.

    Args:
        title: the setting and the compared part.
        names: names of the compared lines, best mean rank first.
        mean_ranks: float64 (m,), 1 is best.
        blocks: number of draws that all lines share.
        friedman_p: p-value of Friedman's test of equal ranks.
        pairs: float64 (m, m), Holm's p-values of the signed-rank tests between pairs, with 1 on the diagonal.
        left_out: names with too few draws in common with the others.
    """

    title: str
    names: list[str]
    mean_ranks: np.ndarray
    blocks: int
    friedman_p: float
    pairs: np.ndarray
    left_out: list[str]


def compute_rankings(runs: "polars.DataFrame", metric: str = "mAP") -> list[Ranking]:
    """Compute the ranking of each setting with enough lines and draws.

    Args:
        runs: as returned by `collect`.
        metric: metric to rank by; larger is better.

    Returns:
        One ranking for the lines of each setting. With more than MAX_LINES lines, one ranking for the projections, in
        which each quantiser is a separate draw, and one for the quantisers, in which each projection is.

    Raises:
        InvalidInputError: no run is done, or no run has the metric.
    """
    done = select_done_runs(runs, metric).sort((*SETTING, *LINE), nulls_last=True)
    rankings = []
    for setting, part in done.group_by(SETTING, maintain_order=True):
        many = part.select(LINE).n_unique() > MAX_LINES
        for compared in ("projections", "quantisers") if many else ("lines",):
            ranks = rank_lines(part, metric, PARTS[compared])
            if ranks is not None:
                title = format_setting(setting) + ("" if compared == "lines" else f": {compared}")
                rankings.append(Ranking(title, *ranks))
    return rankings


def rank_lines(runs: "polars.DataFrame", metric: str, compared: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return the fields of a `Ranking` after its title for runs of one setting; None if too few lines share draws."""
    from scipy.stats import friedmanchisquare, rankdata

    draw_columns = [name for name in ("bits", "seed", "split", *LINE) if name not in compared]
    scores: dict[str, dict[tuple[Any, ...], float]] = {}
    for key, part in runs.group_by(compared, maintain_order=True):
        values = dict(zip(LINE, (None, None, ""), strict=True)) | dict(zip(compared, key, strict=True))
        name = format_line(tuple(values[part] for part in LINE))
        scores[name] = {tuple(row[:-1]): row[-1] for row in part.select(*draw_columns, metric).rows()}
    left_out = []
    while len(scores) >= MIN_LINES and len(find_shared_draws(scores)) < MIN_BLOCKS:
        smallest = min(scores, key=lambda name: len(scores[name]))
        left_out.append(smallest)
        del scores[smallest]
    if len(scores) < MIN_LINES:
        return None
    draws = sorted(find_shared_draws(scores), key=str)
    table = np.array([[scores[name][draw] for draw in draws] for name in scores])
    ranks = rankdata(-table, axis=0).mean(1)
    order = np.argsort(ranks, kind="stable")
    names, table = [list(scores)[place] for place in order], table[order]
    pairs = list(combinations(range(len(names)), 2))
    corrected = holm([wilcoxon(table[i], table[j]).p_value for i, j in pairs])
    matrix = np.eye(len(names))
    for (i, j), p in zip(pairs, corrected, strict=True):
        matrix[i, j] = matrix[j, i] = p
    # Friedman's statistic is undefined for lines that never differ; their ranks are equal.
    friedman_p = 1.0 if (table == table[0]).all() else float(friedmanchisquare(*table).pvalue)
    return names, ranks[order], len(draws), friedman_p, matrix, left_out


def find_shared_draws(scores: dict[str, dict[tuple[Any, ...], float]]) -> set[tuple[Any, ...]]:
    """Return the draws for which every line has a score."""
    return set.intersection(*(set(values) for values in scores.values()))


def format_rankings(rankings: list[Ranking], metric: str) -> str:
    """Format mean ranks as Markdown, a table for each ranking."""
    parts = []
    for ranking in rankings:
        rows = []
        for place, name in enumerate(ranking.names):
            similar = [
                other for i, other in enumerate(ranking.names) if i != place and ranking.pairs[place, i] >= LEVEL
            ]
            rows.append((name, f"{ranking.mean_ranks[place]:.2f}", ", ".join(similar) or "–"))
        table = markdown_table(("compared", "mean rank", f"no difference at p = {LEVEL}"), rows, right=(1,))
        left_out = f" Left out for too few shared draws: {', '.join(ranking.left_out)}." if ranking.left_out else ""
        parts.append(
            f"Ranks by {metric}: {ranking.title}\n\n{table}\nOver {ranking.blocks} shared draws; Friedman's test: "
            f"p = {ranking.friedman_p:.2g}; pairs by Wilcoxon's signed-rank test under Holm's correction.{left_out}\n"
        )
    return "\n".join(parts)


def find_groups(similar: np.ndarray) -> list[frozenset[int]]:
    """Return the maximal groups of two or more members in which every pair is similar.

    They are the maximal cliques of the graph of similar pairs. They are built member by member: a new member forms a
    group with the part of each earlier group that is similar to it.

    Args:
        similar: bool (m, m), symmetric.
    """
    groups: list[frozenset[int]] = []
    for new in range(len(similar)):
        known = frozenset(np.flatnonzero(similar[new, :new]).tolist())
        extended = {group & known | {new} for group in groups} | {frozenset({new})}
        kept = [group for group in groups if not group <= known]
        groups = kept + [group for group in extended if not any(group < other for other in extended)]
    return [group for group in groups if len(group) > 1]


def stack_intervals(intervals: list[tuple[float, float]]) -> list[int]:
    """Return the level of each interval: the lowest, from 0, on which no earlier interval overlaps it."""
    levels: list[int] = []
    for place, (low, high) in enumerate(intervals):
        met = {
            level
            for level, other in zip(levels, intervals[:place], strict=True)
            if low <= other[1] and other[0] <= high
        }
        levels.append(next(level for level in range(place + 1) if level not in met))
    return levels


def draw_critical_differences(rankings: list[Ranking], metric: str) -> "Figure":
    """Draw a critical-difference diagram for each ranking, one below the other.

    Names are placed at their mean ranks; bars connect names that the tests do not separate.

    Args:
        rankings: at least one.
        metric: metric named in the titles.
    """
    heights = [1.1 + 0.2 * (len(ranking.names) / 2 + 2) for ranking in rankings]
    with paper_style():
        # Names extend beyond the axes on both sides. The layout must ignore them, or it would shrink the scale to 0.
        figure = new_figure(7.2, sum(heights), rect=(0.27, 0, 0.46, 1))
        panels = figure.subplots(len(rankings), 1, squeeze=False, height_ratios=heights)
        for axes, ranking in zip(panels.flat, rankings, strict=True):
            draw_ranking(axes, ranking)
            for text in axes.texts:
                text.set_in_layout(False)
            tested = f"{ranking.blocks} draws, Friedman p = {ranking.friedman_p:.2g}"
            axes.set_title(f"Mean rank by {metric}: {ranking.title}\n{tested}", fontsize=8)
    return figure


def draw_ranking(axes: "Axes", ranking: Ranking) -> None:
    """Draw one diagram: the scale of ranks above, bars below it, the better names on the left, the others on the right.

    Bars connect all names if Friedman's test finds no difference.
    """
    ranks = ranking.mean_ranks
    axes.yaxis.set_visible(False)
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    axes.xaxis.set_ticks_position("top")
    axes.spines["top"].set_position("zero")
    similar = (ranking.pairs >= LEVEL) | (ranking.friedman_p >= LEVEL)
    bars = sorted((float(ranks[list(group)].min()), float(ranks[list(group)].max())) for group in find_groups(similar))
    levels = stack_intervals(bars)
    for (low, high), level in zip(bars, levels, strict=True):
        axes.plot([low, high], [-level - 1, -level - 1], color=BLACK, linewidth=2, zorder=3)
    first = -max(levels, default=-1) - 2
    middle = (len(ranks) + 1) // 2
    for place, (name, rank) in enumerate(zip(ranking.names, ranks, strict=True)):
        left = place < middle
        # The outermost names are at the top, so that the lines to names do not cross.
        x, y = (ranks[0] - 0.01, first - place) if left else (ranks[-1] + 0.01, first - (len(ranks) - 1 - place))
        colour = LINE_COLOURS[place % len(LINE_COLOURS)]
        axes.plot([x, rank, rank], [y, y, 0], color=colour, linewidth=0.8)
        axes.scatter(rank, 0, s=8, color=colour, zorder=3)
        text = f"{name} ({rank:.2f})" if left else f"({rank:.2f}) {name}"
        axes.text(x, y, text, color=colour, fontsize=7, ha="right" if left else "left", va="center")
