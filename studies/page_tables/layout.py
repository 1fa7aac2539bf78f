"""Layouts that several tables share."""

from collections.abc import Iterable, Sequence
from functools import cache
from statistics import fmean

from result_files import format_figure, format_mean, read_results

results = cache(read_results)


def page_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Format a Markdown table without padding, so that a changed figure changes one line."""
    right_aligned = set(right)
    rule = ["---:" if column in right_aligned else "---" for column in range(len(header))]
    cells = ((f" {cell} " if cell else " " for cell in row) for row in (header, rule, *rows))
    return "".join(f"|{'|'.join(row)}|\n" for row in cells)


def rows_by_bits(name: str, rows: dict[str, tuple[str, dict[str, str]]], decimals: int = 3) -> str:
    """Format a table with a column per number of bits, of means over draws with intervals.

    Args:
        name: name of the result file.
        rows: for each heading, the metric and the field values that select the runs.
        decimals: number of decimals.
    """
    found = results(name)
    lengths = sorted({run["bits"] for _, fixed in rows.values() for run in found.select(**fixed)})
    cells = [
        (
            heading,
            *(format_mean(found.scores(metric, bits=bits, **fixed).values(), decimals) for bits in lengths),
        )
        for heading, (metric, fixed) in rows.items()
    ]
    return page_table(("", *(f"{bits} bits" for bits in lengths)), cells, range(1, len(lengths) + 1))


def slashed_means(name: str, metric: str, **fixed: str) -> str:
    """Format the means over draws at every number of bits, as .209 / .209 / .207."""
    found = results(name)
    lengths = sorted({run["bits"] for run in found.select(**fixed)})
    return " / ".join(format_figure(fmean(found.scores(metric, bits=bits, **fixed).values())) for bits in lengths)


def left_out(name: str) -> str:
    """Return the range over draws, and the mean, of the number of queries without a relevant item, of 1,000."""
    counts = {run["seed"]: run["skipped_queries"] for run in results(name).select()}.values()
    return f"{min(counts)} to {max(counts)} of the 1,000 queries ({fmean(counts):.0f} on average)"
