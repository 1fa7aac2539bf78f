"""Tables of docs/results.md: quantisers, thresholds, numbers of labels, the grand table and SIFT vectors."""

from collections.abc import Callable, Iterable
from functools import partial
from statistics import fmean
from typing import Any

from result_files import format_figure, format_mean, group_by

from deephash.metrics.confidence import mean_interval
from page_tables.layout import left_out, page_table, results

PROJECTIONS = ("lsh", "itq", "sh", "pcah", "sklsh")
QUANTIZERS = ("sbq", "hq", "dbq", "mhq", "npq", "vbq")
REFINED = ("sbq", "npq", "vbq")  # on GRH from each projection
# Moran, Lavrenko & Osborne, SIGIR and ACL 2013, and Moran's thesis.
PUBLISHED = {
    "lsh": ".095 .067 .085 .088 .162 .204 .202 .259 .242",
    "itq": ".267 .224 .221 .217 .392 .338 .256 .367 .319",
    "sh": ".063 .074 .095 .137 .183 .238 .215 .296 .300",
    "pcah": ".039 .078 .108 .141 .166 .258 .219 .279 .290",
    "sklsh": ".051 .036 .042 .061 .106 .212 .165 .257 .233",
}
NAMES = {
    "agh": "AGH",
    "bre": "BRE",
    "bre_supervised": "BRE, supervised",
    "fasthash": "FastHash",
    "grh": "GRH",
    "grh_rbf": "GRH, RBF",
    "itq": "ITQ",
    "itq_cca": "ITQ+CCA",
    "ksh": "KSH",
    "lsh": "LSH",
    "npq_exact": "exact NPQ",
    "pcah": "PCAH",
    "sdh": "SDH",
    "sgh": "SGH",
    "sh": "SH",
    "sklsh": "SKLSH",
    "sph": "SpH",
    "sth": "STH",
    "sth_rbf": "STH, RBF SVM",
    "vbq_exact": "exact VBQ",
}
OPEN = "–"


def name_choice(word: str) -> str:
    """Return the name of a method or quantiser as a page prints it."""
    return NAMES.get(word, word.upper())


def mean_figure(name: str, metric: str, **values: Any) -> str:
    """Return the mean over draws of the runs with these values."""
    return format_figure(fmean(results(name).scores(metric, **values).values()))


def quantizers_table() -> str:
    """Return the AUPRC of quantisers on projections, and on GRH from them, beside the published figures."""
    rows = []
    for projection in PROJECTIONS:
        ours = [mean_figure("quantizers", "AUPRC_micro", method=projection, quantizer=q) for q in QUANTIZERS]
        initial = {"projection.initial._target_": f"deephash.projections.{name_choice(projection)}"}
        ours += [mean_figure("quantizers_grh", "AUPRC_micro", quantizer=q, **initial) for q in REFINED]
        rows += [(name_choice(projection), "ours", *ours), ("", "published", *PUBLISHED[projection].split())]
    header = ("projection", "", *map(name_choice, QUANTIZERS), *(f"GRH + {name_choice(q)}" for q in REFINED))
    return page_table(header, rows)


def grid(name: str, metric: str, methods: Iterable[str], quantizers: Iterable[str], **values: Any) -> str:
    """Return the means over draws of projections × quantisers."""
    columns = list(quantizers)
    rows = [
        (name_choice(method), *(mean_figure(name, metric, method=method, quantizer=q, **values) for q in columns))
        for method in methods
    ]
    return page_table(("projection", *map(name_choice, columns)), rows)


def exact_table() -> str:
    """Return the AUPRC of the papers' random search and of the exact search, on the draws of the exact search."""
    rows = []
    for projection in ("itq", "lsh", "pcah"):
        cells = []
        for quantizer in ("npq", "vbq"):
            exact = results("quantizers_exact").scores("AUPRC_micro", method=projection, quantizer=f"{quantizer}_exact")
            searched = results("quantizers").scores("AUPRC_micro", method=projection, quantizer=quantizer)
            cells += [format_figure(fmean(searched[seed] for seed in exact)), format_figure(fmean(exact.values()))]
        rows.append((name_choice(projection), *cells))
    return page_table(("projection", "NPQ", "exact NPQ", "VBQ", "exact VBQ"), rows)


def labels_gap() -> str:
    """Return the scores of ITQ and KSH by number of labelled items, with their gap paired by draw."""
    found = results("labels_gap")
    rows = []
    for labelled in sorted({run["protocol.train"] for run in found.select()}):
        itq, ksh = (found.scores("mAP", method=method, **{"protocol.train": labelled}) for method in ("itq", "ksh"))
        columns = (itq.values(), ksh.values(), [ksh[seed] - itq[seed] for seed in itq])
        rows.append((f"{labelled:,}", *(format_mean(column, 4) for column in columns)))
    return page_table(("labelled items", "ITQ", "KSH", "gap"), rows, (0,))


def grand_table(truth: str, metric: str, bits: int) -> str:
    """Return projections × quantisers over the draws so far; the best quantiser of a row is bold, open cells a dash."""
    cells = group_by(results("grand_table").select(truth=truth, bits=bits), "method", "quantizer")
    methods = [method for method in GRAND_METHODS if any(method == found for found, _ in cells)]
    rows = []
    for method in methods:
        scores = {q: [run[metric] for run in cells[method, q]] for q in GRAND_QUANTIZERS if (method, q) in cells}
        means = {q: fmean(found) for q, found in scores.items()}
        best = max(means, key=lambda q: means[q])
        figures = {q: format_figure(mean) for q, mean in means.items()} | {best: f"**{format_figure(means[best])}**"}
        draws = sorted({len(found) for found in scores.values()})
        rows.append(
            (name_choice(method), *(figures.get(q, OPEN) for q in GRAND_QUANTIZERS), " to ".join(map(str, draws)))
        )
    header = ("projection", *map(name_choice, GRAND_QUANTIZERS), "draws")
    return page_table(header, rows, range(1, len(header)))


def half_widths(name: str, metric: str) -> list[float]:
    """Return half the 95 % interval over draws of every cell of a file, in ascending order."""
    runs = results(name).select()
    fields = [field for field in results(name).fields if field not in ("seed", "mAP", "AUPRC_micro")]
    return sorted(mean_interval([run[metric] for run in cell]).half_width for cell in group_by(runs, *fields).values())


def interval_range(name: str, metric: str) -> str:
    """Return the smallest and the largest half of an interval of a file, as .002 and .059."""
    found = half_widths(name, metric)
    return f"{format_figure(found[0])} and {format_figure(found[-1])}"


def largest_interval(name: str, metric: str) -> str:
    """Return the largest half of an interval of a file."""
    return format_figure(half_widths(name, metric)[-1])


GRAND_METHODS = (
    *("lsh", "sklsh", "pcah", "sh", "itq", "agh", "sth", "bre", "sph", "sgh"),
    *("itq_cca", "ksh", "bre_supervised", "sth_rbf", "grh", "grh_rbf", "sdh", "fasthash"),
)
GRAND_QUANTIZERS = ("sbq", "hq", "dbq", "mhq", "npq", "npq_exact", "vbq", "vbq_exact")
SIFT_METHODS = ("lsh", "sklsh", "pcah", "sh", "itq", "agh", "sph", "sgh")

TABLES: dict[str, Callable[[], str]] = {
    "grand_label_32": partial(grand_table, "label", "mAP", 32),
    "grand_ball_32": partial(grand_table, "epsilon_ball_database", "AUPRC_micro", 32),
    "labels_gap": labels_gap,
    "quantizers": quantizers_table,
    "quantizers_exact": exact_table,
    "quantizers_map": partial(grid, "quantizers", "mAP", PROJECTIONS, QUANTIZERS),
    "sift": partial(grid, "sift", "mAP", SIFT_METHODS, QUANTIZERS[:-1]),
}

FIGURES: dict[str, Callable[[], str]] = {
    "quantizers_left_out": partial(left_out, "quantizers_left_out"),
    "quantizers_interval": partial(interval_range, "quantizers", "AUPRC_micro"),
    "quantizers_map_interval": partial(interval_range, "quantizers", "mAP"),
    "quantizers_grh_interval": partial(largest_interval, "quantizers_grh", "AUPRC_micro"),
    "sift_interval": partial(largest_interval, "sift", "mAP"),
}
