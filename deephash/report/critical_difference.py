"""Which methods of a sweep rank apart: mean ranks over its draws, tests between them, and the diagram of both.

J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006; with Wilcoxon's signed-rank test
under Holm's correction between pairs, in place of Nemenyi's, after Benavoli et al., JMLR 2016.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from deephash.metrics.confidence import wilcoxon
from deephash.report.drawing import new_figure, paper_style
from deephash.report.sweep_runs import SETTING
from deephash.report.sweep_statistics import LINE, done_runs, holm, line_name
from deephash.report.sweep_tables import setting_text
from deephash.report.tables import markdown_table

if TYPE_CHECKING:
    import polars
    from matplotlib.figure import Figure

# Friedman's test compares at least three, and no signed-rank test of fewer blocks can give p < .05.
FEWEST_LINES, FEWEST_BLOCKS = 3, 6
# More names than these cannot be read beside one axis: then projections and quantisers are compared apart.
MAX_LINES = 30
LEVEL = 0.05
# What a diagram may compare: lines of the sweep's table, or one of their two parts.
PARTS = {"lines": LINE, "projections": ("method", "settings"), "quantisers": ("quantizer",)}


@dataclass(frozen=True)
class Ranking:
    """The ranks of one setting.

    Args:
        title: the setting, and what is compared.
        names: what is compared, best mean rank first.
        mean_ranks: float64 (m,), 1 the best.
        blocks: draws that all of them share.
        friedman_p: p-value of Friedman's test that all rank alike.
        pairs: float64 (m, m), Holm's p-values of the signed-rank tests between pairs, with 1 on the diagonal.
        left_out: what has too few draws in common with the others.
    """

    title: str
    names: list[str]
    mean_ranks: np.ndarray
    blocks: int
    friedman_p: float
    pairs: np.ndarray
    left_out: list[str]


def rankings(runs: "polars.DataFrame", metric: str = "mAP") -> list[Ranking]:
    """The ranking of each setting that has enough lines and draws.

    Args:
        runs: as `collect` gives.
        metric: larger is better.

    Returns:
        One for the lines of each setting; where they are more than MAX_LINES, one for the projections, whose draws
        are told apart by quantiser too, and one for the quantisers.

    Raises:
        InvalidInputError: no run is done, or none has that metric.
    """
    import polars

    done = done_runs(runs, metric).filter(polars.col(metric).is_not_null() & polars.col(metric).is_not_nan())
    found = []
    for setting, part in done.sort((*SETTING, *LINE), nulls_last=True).group_by(SETTING, maintain_order=True):
        many = part.select(LINE).n_unique() > MAX_LINES
        for compared in ("projections", "quantisers") if many else ("lines",):
            ranked = rank_lines(part, metric, PARTS[compared])
            if ranked is not None:
                title = setting_text(setting) + ("" if compared == "lines" else f": {compared}")
                found.append(Ranking(title, *ranked))
    return found


def rank_lines(runs: "polars.DataFrame", metric: str, compared: tuple[str, ...]) -> tuple[Any, ...] | None:
    """What a `Ranking` holds beside its title, for the runs of one setting; None where they are too few."""
    from scipy.stats import friedmanchisquare, rankdata

    apart = [name for name in ("bits", "seed", "split", *LINE) if name not in compared]
    scores: dict[str, dict[tuple[Any, ...], float]] = {}
    for key, part in runs.group_by(compared, maintain_order=True):
        values = dict(zip(LINE, (None, None, ""), strict=True)) | dict(zip(compared, key, strict=True))
        name = line_name(tuple(values[part] for part in LINE))
        scores[name] = {tuple(row[:-1]): row[-1] for row in part.select(*apart, metric).rows()}
    left_out = []
    while len(scores) >= FEWEST_LINES and len(shared_draws(scores)) < FEWEST_BLOCKS:
        fewest = min(scores, key=lambda name: len(scores[name]))
        left_out.append(fewest)
        del scores[fewest]
    if len(scores) < FEWEST_LINES:
        return None
    draws = sorted(shared_draws(scores), key=str)
    table = np.array([[scores[name][draw] for draw in draws] for name in scores])
    ranks = rankdata(-table, axis=0).mean(1)
    order = np.argsort(ranks, kind="stable")
    names, table = [list(scores)[place] for place in order], table[order]
    pairs = list(combinations(range(len(names)), 2))
    corrected = holm([wilcoxon(table[one], table[other]).p_value for one, other in pairs])
    matrix = np.eye(len(names))
    for (one, other), p in zip(pairs, corrected, strict=True):
        matrix[one, other] = matrix[other, one] = p
    # Lines that never differ leave Friedman's statistic without a value; they rank alike.
    alike = bool((table == table[0]).all())
    friedman_p = 1.0 if alike else float(friedmanchisquare(*table).pvalue)
    return names, ranks[order], len(draws), friedman_p, matrix, left_out


def shared_draws(scores: dict[str, dict[tuple[Any, ...], float]]) -> set[tuple[Any, ...]]:
    """The draws of which every line has a score."""
    return set.intersection(*(set(values) for values in scores.values()))


def ranking_markdown(found: list[Ranking], metric: str) -> str:
    """Mean ranks as Markdown, a table for each ranking; empty where there is none."""
    parts = []
    for ranking in found:
        rows = []
        for place, name in enumerate(ranking.names):
            # Those that the tests do not tell from this one.
            alike = [other for i, other in enumerate(ranking.names) if i != place and ranking.pairs[place, i] >= LEVEL]
            rows.append((name, f"{ranking.mean_ranks[place]:.2f}", ", ".join(alike) or "–"))
        table = markdown_table(("compared", "mean rank", f"not told apart at p = {LEVEL}"), rows, right=(1,))
        left_out = f" Left out, for want of shared draws: {', '.join(ranking.left_out)}." if ranking.left_out else ""
        parts.append(
            f"Ranks by {metric}: {ranking.title}\n\n{table}\nOver {ranking.blocks} shared draws; Friedman's test: "
            f"p = {ranking.friedman_p:.2g}; pairs by Wilcoxon's signed-rank test under Holm's correction.{left_out}\n"
        )
    return "\n".join(parts)


def critical_difference_figure(found: list[Ranking], metric: str) -> "Figure":
    """The critical-difference diagrams, one below another: names at their mean ranks, bars across those not told apart.

    Args:
        found: at least one ranking.
        metric: named in the titles.
    """
    import pandas
    from scikit_posthocs import critical_difference_diagram

    heights = [1.1 + 0.2 * (len(ranking.names) / 2 + 2) for ranking in found]
    with paper_style():
        # Names hang out on either side, and would squeeze the scale to nothing if the layout made room for them.
        figure = new_figure(7.2, sum(heights), rect=(0.27, 0, 0.46, 1))
        panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)
        for axes, ranking in zip(panels.flat, found, strict=True):
            pairs = pandas.DataFrame(ranking.pairs, index=ranking.names, columns=ranking.names)
            # Where Friedman's test does not tell them apart, no pair is.
            pairs = pairs if ranking.friedman_p < LEVEL else pairs * 0 + 1
            ranks = pandas.Series(ranking.mean_ranks, index=ranking.names)
            critical_difference_diagram(
                ranks, pairs, ax=axes, alpha=LEVEL, label_props={"fontsize": 7}, marker_props={"s": 8},
                label_fmt_left="{label} ({rank:.2f})", label_fmt_right="({rank:.2f}) {label}",
            )  # fmt: skip
            for text in axes.texts:
                text.set_in_layout(False)
            tested = f"{ranking.blocks} draws, Friedman p = {ranking.friedman_p:.2g}"
            axes.set_title(f"Mean rank by {metric}: {ranking.title}\n{tested}", fontsize=8)
    return figure
