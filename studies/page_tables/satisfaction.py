"""Tables of docs/satisfaction.md: agreement of metrics with simulated users."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

from result_files import format_figure, format_mean

from page_tables.layout import page_table, results

# Pairs that mAP orders wrongly: heading and system as its result row names it, the better by mAP first.
PAIRS = (
    (("GRH, 16 bits", "grh sbq 16"), ("ITQ, 64 bits", "itq sbq 64")),
    (("supervised BRE, 16 bits", "bre_supervised sbq 16"), ("SH, 64 bits", "sh sbq 64")),
    (("GRH, 16 bits", "grh sbq 16"), ("SGH, 64 bits", "sgh sbq 64")),
    (("supervised BRE, 16 bits", "bre_supervised sbq 16"), ("PCAH, 64 bits", "pcah sbq 64")),
    (("ITQ+CCA, 16 bits", "itq_cca sbq 16"), ("ITQ, 64 bits", "itq sbq 64")),
)


def user_columns() -> tuple[list[str], list[str]]:
    """Return the columns of τ of the users of lists, and of the users of pages."""
    users = [field for field in results("satisfaction").fields if field.startswith("τ, ")]
    pages = [field for field in users if field.startswith("τ, grid")]
    return [field for field in users if field not in pages], pages


def metrics_table(sweep: str) -> str:
    """Return the agreement of every metric with users of lists and of pages, ordered by the mean over all users."""
    found = results("satisfaction")
    lists, pages = user_columns()

    def by_draw(metric: str, columns: Sequence[str]) -> list[list[float]]:
        return [[run[column] for column in columns] for run in found.select(sweep=sweep, metric=metric)]

    metrics = dict.fromkeys(run["metric"] for run in found.select(sweep=sweep))
    rows = []
    for metric in sorted(metrics, key=lambda m: -fmean(fmean(draw) for draw in by_draw(m, lists + pages))):
        taus = [
            format_mean([reduce(draw) for draw in by_draw(metric, users)], 2)
            for users in (lists, pages)
            for reduce in (fmean, min)
        ]
        by_query = [fmean(x for (x,) in by_draw(metric, [f"τ by query, {users}"])) for users in ("lists", "grids")]
        separated = format_mean([x for (x,) in by_draw(metric, ["separated"])], 2)
        rows.append((metric, *taus, ", ".join(format_figure(x, 2) for x in by_query), separated))
    header = ["metric", "lists: τ, mean over users", "lowest", "grids: τ, mean over users", "lowest"]
    return page_table((*header, "τ by query: lists, grids", "separated"), rows, range(1, 7))


def users_table(metrics: Sequence[str]) -> str:
    """Return the agreement of some metrics with every user of pages."""
    found = results("satisfaction")
    rows = [
        (
            user.removeprefix("τ, "),
            *(format_mean([run[user] for run in found.select(sweep="satisfaction", metric=m)], 2) for m in metrics),
        )
        for user in user_columns()[1]
    ]
    return page_table(("user of a page", *metrics), rows, range(1, len(metrics) + 1))


def pairs_table() -> str:
    """Return pairs of systems that mAP orders against the users, with means over draws."""
    found = results("satisfaction_systems")
    figures = ("mAP", "precision@10", "satisfied, dynamic Bayesian", "satisfied, grid")
    rows = []
    for pair in PAIRS:
        cells = []
        for figure in figures:
            scores = (found.scores(figure, sweep="satisfaction", system=system) for _, system in pair)
            cells.append(", ".join(format_figure(fmean(values.values())) for values in scores))
        rows.append((*(heading for heading, _ in pair), *cells))
    header = ("better by mAP", "better by users", *(figure.replace("satisfied,", "satisfied:") for figure in figures))
    return page_table(header, rows)


def gains_table() -> str:
    """Return the smallest gains at which nine of ten users prefer the better system, by number of queries."""
    found = results("satisfaction_gains")
    rows = []
    for queries in sorted({run["queries"] for run in found.select()}):
        cells = []
        for metric in ("mAP", "precision@10"):
            fixed = {"sweep": "satisfaction", "queries": queries}
            gains = [gain for gain in found.scores(metric, **fixed).values() if gain is not None]
            cells.append(format_mean(gains, 2) if gains else "no observed gain is enough")
            cells.append(format_mean(found.scores(f"{metric}: agreeing pairs", **fixed).values(), 2))
        rows.append((str(queries), *cells))
    header = ["queries asked"]
    for metric in ("mAP", "precision@10"):
        header += [f"gain in {metric}", f"pairs where most users agree with {metric}"]
    return page_table(header, rows, range(5))


TABLES = {
    "satisfaction_gains": gains_table,
    "satisfaction_labels": partial(metrics_table, "satisfaction"),
    "satisfaction_neighbours": partial(metrics_table, "satisfaction_neighbours"),
    "satisfaction_pages": partial(users_table, ("mAP", "precision@10", "ERR@20", "success@5")),
    "satisfaction_pairs": pairs_table,
}


def mean_agreement(metric: str, page: str, sweep: str = "satisfaction") -> str:
    """Return a metric's mean τ with users of lists or of grids, with its interval over draws."""
    columns = user_columns()[page == "grids"]
    draws = results("satisfaction").select(sweep=sweep, metric=metric)
    return format_mean([fmean(run[column] for column in columns) for run in draws], 2)


def mean_lead(metric: str, other: str, page: str) -> str:
    """Return by how much the mean τ of a metric exceeds that of another, with its interval over draws."""
    columns = user_columns()[page == "grids"]
    runs = [results("satisfaction").select(sweep="satisfaction", metric=name) for name in (metric, other)]
    one, two = ({run["seed"]: fmean(run[column] for column in columns) for run in found} for found in runs)
    return format_mean(one[seed] - two[seed] for seed in one)


def without_interval(figure: Callable[[], str]) -> str:
    """Return the mean alone."""
    return figure().partition(" ")[0]


FIGURES: dict[str, Callable[[], str]] = {
    f"{sweep}_mAP_{page}": partial(mean_agreement, "mAP", page, sweep)
    for sweep in ("satisfaction", "satisfaction_neighbours")
    for page in ("lists", "grids")
} | {
    f"satisfaction_{metric}_{page}": partial(without_interval, partial(mean_agreement, metric, page))
    for metric in ("ERR@20", "success@5")
    for page in ("lists", "grids")
}
FIGURES |= {
    f"satisfaction_neighbours_{page}": partial(without_interval, FIGURES[f"satisfaction_neighbours_mAP_{page}"])
    for page in ("lists", "grids")
}
FIGURES |= {
    f"satisfaction_{metric}_{other}_{page}": partial(mean_lead, metric, other, page)
    for metric, other, page in (
        ("ERR@20", "mAP", "lists"),
        ("ERR@20", "success@5", "lists"),
        ("ERR@20", "precision@1", "lists"),
        ("success@5", "mAP", "grids"),
        ("success@5", "ERR@20", "grids"),
    )
}
