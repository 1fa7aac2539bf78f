"""Tables of times, from result files that the scripts in benchmarks/ write with --json."""

from collections.abc import Sequence

from result_files import FOLDER, format_figure

from page_tables.layout import page_table, results

LISTED, NEAREST = 100, 10  # neighbours of a scan, and of multi-index hashing
AT_A_TIME = ("100 at a time", "1 at a time")  # queries of a search of a changed index


def format_milliseconds(value: float) -> str:
    """Format a time with two significant digits, without the zero before its point."""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    return f"{digits.removeprefix('0')} ms"


def format_times(value: float) -> str:
    """Format a ratio with one decimal below 10, and without decimals above."""
    return format_figure(value, 1) if value < 9.95 else f"{value:.0f}"


def format_speedup(value: float) -> str:
    """Format a ratio with two decimals below 2, where a few per cent matter."""
    return format_figure(value, 2) if value < 2 else format_times(value)


def compare_passes(slower: Sequence[float], faster: Sequence[float]) -> str:
    """Return the ratio of the minima and, in brackets, the range of the ratios of single passes."""
    ratios = sorted(a / b for a, b in zip(slower, faster, strict=True))
    low, high = format_times(ratios[0]), format_times(ratios[-1])
    single = low if low == high else f"{low} to {high}"
    return f"{format_times(min(slower) / min(faster))} ({single})"


def indexes_table() -> str:
    """Return the times of scans and of multi-index hashing, and those of their rivals as ratios, by number of codes."""
    found = results("indexes")
    sizes = sorted({run["codes"] for run in found.select()})

    def passes(codes: int, k: int, engine: str) -> list[float]:
        return [run["milliseconds"] for run in found.find(codes=codes, k=k, engine=engine)]

    def ratio(codes: int, k: int, slower: str, faster: str, words: str) -> str:
        theirs = passes(codes, k, slower)
        return f"{compare_passes(theirs, passes(codes, k, faster))} times as {words}" if theirs else "not run"

    rows = [
        [f"`flat`, {LISTED} nearest", *(format_milliseconds(min(passes(n, LISTED, "flat"))) for n in sizes)],
        ["FAISS's scan takes", *(ratio(n, LISTED, "FAISS", "flat", "long") for n in sizes)],
        ["USearch's scan takes", *(ratio(n, LISTED, "USearch", "flat", "long") for n in sizes)],
        [f"`mih`, {NEAREST} nearest", *(format_milliseconds(min(passes(n, NEAREST, "mih"))) for n in sizes)],
        ["- against `flat`", *(ratio(n, NEAREST, "flat", "mih", "fast") for n in sizes)],
        [
            "FAISS's multi-hash at full recall, against `mih`",
            *(ratio(n, NEAREST, "FAISS multi-hash", "mih", "long") for n in sizes),
        ],
    ]
    return page_table(("", *(f"{n:,} codes" for n in sizes)), rows)


def ranking_table() -> str:
    """Return the times of ranking random 64-bit codes beside those of each rival, in milliseconds."""
    rows = [
        (
            TASKS[run["task"]],
            format_milliseconds(run["milliseconds"]),
            RIVALS[run["rival"]],
            format_milliseconds(run["rival_milliseconds"]),
            format_speedup(run["rival_milliseconds"] / run["milliseconds"]),
        )
        for run in results("ranking").select(codes="random", bits=64)
        if run["rival_milliseconds"]
    ]
    return page_table(("task", "deephash", "rival", "its time", "deephash's speed over its"), rows, (1, 3, 4))


def ranking_lengths_table() -> str:
    """Return the times of ranking codes of clustered items, and the ratios to rivals, by code length."""
    found = results("ranking")
    rows = []
    for bits in sorted({run["bits"] for run in found.select(codes="skewed")}):
        runs = {(run["task"], run["rival"]): run for run in found.select(codes="skewed", bits=bits)}
        faiss, limit, counts = (runs[key] for key in (("top 100", "FAISS"), ("top 100", "limit"), ("histograms", "C")))
        rows.append(
            (
                f"{bits:,}",
                format_milliseconds(faiss["milliseconds"]),
                format_times(faiss["rival_milliseconds"] / faiss["milliseconds"]),
                format_figure(limit["milliseconds"] / limit["rival_milliseconds"], 2),
                format_milliseconds(counts["milliseconds"]),
                format_figure(counts["milliseconds"] / counts["rival_milliseconds"], 2),
            )
        )
    header = (
        "bits", "100 nearest", "speed over FAISS", "time / C intrinsics", "histograms", "time / popcount loop in C"
    )  # fmt: skip
    return page_table(header, rows, tuple(range(6)))


def ranking_time(task: str, unit: float = 1000.0) -> str:
    """Return the time of a task of `benchmarks/ranking.py` that has no rival, in units of a number of milliseconds."""
    (run,) = results("ranking").find(task=task)
    return f"{run['milliseconds'] / unit:.2g}"


TASKS = {
    "histograms": "distance histograms",
    "metrics": "mAP@all and AUPRC, relevance by label included",
    "full ranking": "the same, against a full ranking",
    "top 100": "100 nearest with ids",
    "asymmetric": "histograms of asymmetric distances",
}
RIVALS = {
    "C": "a blocked popcount loop in C, `-O3 -march=native`",
    "NumPy float32": "NumPy by query, float32: ±1 products, argsort, cumulative sums",
    "NumPy float64": "the same in float64",
    "FAISS": "`faiss.IndexBinaryFlat`",
    "limit": "a C loop of vector intrinsics that only counts the items within a distance",
    "byte tables": "the same without vector instructions, by a table of costs per byte",
}


# A table of times joins its page when a quiet machine has written its result file.
def changing_indexes_table() -> str:
    """Return the rates of adds, and the ratios of searches of changed and filtered indexes, by kind."""
    found = results("changing_indexes")
    kinds = ("flat", "mih")

    def figure(value: float) -> str:
        return f"{value:,.0f}" if value >= 1000 else format_figure(value, 2)

    rows = [
        [measure, *(figure(next(run["value"] for run in found.find(kind=kind, measure=measure))) for kind in kinds)]
        for measure in dict.fromkeys(run["measure"] for run in found.select() if run["part"] in ("adds", "filters"))
    ]
    return page_table(("", *(f"`{kind}`" for kind in kinds)), rows, (1, 2))


def replaced_items_table() -> str:
    """Return the times of searches after half of the items were replaced, and of queries during adds, as ratios."""
    found = results("replaced_items")

    def pair(kind: str, bits: int, codes: int, first: str, second: str) -> str:
        runs = {run["measure"]: run["value"] for run in found.select(kind=kind, bits=bits, codes=codes)}
        if first not in runs:
            return "not run"
        return f"{format_figure(runs[first], 2)} ({format_figure(runs[second], 2)})"

    replaced = "half of the items replaced, {}, against a new index, {}"
    searches = [(words, [replaced.format(words, each) for each in ("mean", "slowest")]) for words in AT_A_TIME]
    during = ("during adds", [f"query during adds, {each}, against rest" for each in ("median", "mean")])
    columns = [(kind, *each) for each in (*searches, during) for kind in ("flat", "mih")]
    header = ("bits", "codes", *(f"`{kind}`, {words}" for kind, words, _ in columns))
    rows = [
        [str(bits), f"{codes:,}", *(pair(kind, bits, codes, *measures) for kind, _, measures in columns)]
        for bits, codes in dict.fromkeys((run["bits"], run["codes"]) for run in found.select())
    ]
    return page_table(header, rows, range(len(header)))


MAKERS = {
    "changing_indexes": changing_indexes_table,
    "indexes": indexes_table,
    "ranking": ranking_table,
    "replaced_items": replaced_items_table,
}
TABLES = {name: table for name, table in MAKERS.items() if (FOLDER / f"{name}.json").exists()}
FIGURES = {}
if "ranking" in TABLES:
    TABLES["ranking_lengths"] = ranking_lengths_table
    FIGURES = {
        "ranking_labels": lambda: f"{ranking_time('several labels', 1)} ms",
        "ranking_large": lambda: ranking_time("large"),
        "ranking_first": lambda: ranking_time("first ranking"),
        "ranking_cached": lambda: ranking_time("first ranking, cached").removeprefix("0"),
    }
