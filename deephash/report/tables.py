"""Values and rows as text, Markdown and Parquet."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from deephash.io.files import write_whole
from deephash.validation import InvalidInputError

# Columns that identify a result, so that no metric appears without its settings.
IDENTITY = ("method", "quantizer", "bits", "data", "protocol", "truth", "score", "database_codes", "k", "seed")


def format_value(value: Any, decimals: int = 4) -> str:
    """Format a value as a table cell: floats with fixed decimals, lists with commas, None and NaN as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(entry, decimals) for entry in value)
    return str(value)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = ()) -> str:
    """Format a Markdown table whose columns also line up as plain text.

    Args:
        header: names of the columns.
        rows: cells, formatted by `format_value`.
        right: positions of right-aligned columns, such as numbers.
    """
    right_aligned = set(right)
    lines = [[_escape(format_value(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]

    def join(cells: Sequence[str]) -> str:
        padded = [
            c.rjust(w) if i in right_aligned else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * (width - 1) + ":" if i in right_aligned else "-" * width for i, width in enumerate(widths)]
    return "\n".join([join(lines[0]), join(rule), *(join(line) for line in lines[1:])]) + "\n"


def _escape(cell: str) -> str:
    """Return a cell that cannot break its column or its line."""
    return " ".join(cell.replace("|", "\\|").split())


def write_per_query(
    path: Path, values: Mapping[str, Tensor], query_ids: Tensor, directions: Sequence[str] | None = None
) -> Path:
    """Write the scores of each query as Parquet. The write is atomic.

    Args:
        path: the file.
        values: metric name → (q,) values. NaN, for a query without relevant items, becomes null.
        query_ids: int64 (q,), rows of the queries in the data set.
        directions: direction of search of each query, q names; None with one view.

    Returns:
        path.

    Raises:
        InvalidInputError: a metric does not have one value for each query.
    """
    import polars

    for name, column in values.items():
        if tuple(column.shape) != (len(query_ids),):
            raise InvalidInputError(
                f"per-query {name} has shape {tuple(column.shape)}; expected one value for each of the "
                f"{len(query_ids)} queries."
            )
    columns = {"query": query_ids, **values}
    frame = polars.DataFrame({name: column.detach().cpu().numpy() for name, column in columns.items()})
    if directions is not None:
        frame = frame.with_columns(polars.Series("direction", list(directions)))
    write_whole(path, frame.with_columns(polars.selectors.float().fill_nan(None)).write_parquet)
    return path


def replace_nonfinite(value: Any) -> Any:
    """Return the value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: replace_nonfinite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
