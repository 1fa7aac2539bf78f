"""Result rows as tables: for the terminal, and as Markdown, CSV, JSON and Parquet files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deephash.io.files import write_json, write_text, write_whole
from deephash.validation import InvalidInputError, check_choice

if TYPE_CHECKING:
    from rich.table import Table

# What identifies a result; every row names them all, so that no figure stands without its setting.
IDENTITY = ("method", "quantizer", "bits", "data", "protocol", "truth", "score", "database_codes", "k", "seed")


def text(value: Any, decimals: int = 4) -> str:
    """A value as a cell: floats with four decimals, lists joined by commas, nothing and NaN as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{decimals}f}"
    if isinstance(value, list | tuple):
        return ", ".join(text(entry, decimals) for entry in value)
    return str(value)


def flat_row(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as one flat row: its identity, then its metrics, then the queries that they leave out.

    Args:
        result: as in `metrics.json`.

    Raises:
        InvalidInputError: where it names no metrics.
    """
    metrics = result.get("metrics")
    if not isinstance(metrics, Mapping):
        raise InvalidInputError(f"a result row has the keys {sorted(result)}; expected metrics among them.")
    identity = {name: result[name] for name in IDENTITY if name in result}
    identity = {name: text(value) if isinstance(value, list) else value for name, value in identity.items()}
    return {**identity, **metrics, "skipped_queries": result.get("skipped_queries", 0)}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = ()) -> str:
    """A Markdown table whose columns line up as text too.

    Args:
        header: names of the columns.
        rows: cells; see `text` for how values are written.
        right: positions of the columns that are aligned to the right, as numbers are.
    """
    to_right = set(right)
    lines = [[_escape(text(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]

    def join(cells: Sequence[str]) -> str:
        padded = [
            c.rjust(w) if i in to_right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * (width - 1) + ":" if i in to_right else "-" * width for i, width in enumerate(widths)]
    return "\n".join([join(lines[0]), join(rule), *(join(line) for line in lines[1:])]) + "\n"


def _escape(cell: str) -> str:
    """A cell that can break neither its column nor its line."""
    return " ".join(cell.replace("|", "\\|").split())


def result_table(results: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None) -> "Table":
    """Results as a table for the terminal, one row each.

    Args:
        results: as in `metrics.json`.
        metrics: the metrics to show; None shows those of the first result.

    Raises:
        InvalidInputError: no results, or a metric that none of them has.
    """
    from rich.table import Table

    rows = [flat_row(result) for result in results]
    if not rows:
        raise InvalidInputError("0 results; a table needs at least one.")
    shown = list(results[0]["metrics"]) if metrics is None else list(metrics)
    for name in shown:
        check_choice(name, {key for result in results for key in result["metrics"]}, "metric")
    table = Table(header_style="bold", pad_edge=False)
    identity = [name for name in IDENTITY if any(name in row for row in rows)]
    for name in identity:
        table.add_column(name, justify="right" if name in ("bits", "seed") else "left")
    for name in shown:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(text(row.get(name)) for name in (*identity, *shown)))
    return table


def write_rows(path: Path, results: Sequence[Mapping[str, Any]]) -> Path:
    """Write results as a table, whole or not at all.

    Args:
        path: file ending in .csv, .md or .json.
        results: as in `metrics.json`. JSON keeps them as they are, the others take `flat_row` of each.

    Returns:
        path.

    Raises:
        InvalidInputError: another ending, or a result without metrics.
    """
    import polars

    check_choice(path.suffix.lower(), (".csv", ".md", ".json"), f"the ending of {path.name}")
    rows = [flat_row(result) for result in results]
    if path.suffix.lower() == ".json":
        write_json(path, [finite(dict(result)) for result in results])
        return path
    frame = polars.DataFrame(rows, infer_schema_length=None)
    if path.suffix.lower() == ".csv":
        write_whole(path, frame.write_csv)
        return path
    numbers = [i for i, kind in enumerate(frame.dtypes) if kind.is_numeric()]
    write_text(path, markdown_table(frame.columns, frame.rows(), right=numbers))
    return path


def write_per_query(
    path: Path, values: Mapping[str, Tensor], query_ids: Tensor, directions: Sequence[str] | None = None
) -> Path:
    """Write what each query scored as Parquet, whole or not at all.

    Args:
        path: the file.
        values: name → (q,) values of one metric; NaN, a query without a relevant item, becomes null.
        query_ids: int64 (q,), the queries' rows in the data set.
        directions: which view of each query asked and which was searched, q names; None where there is one view.

    Returns:
        path.

    Raises:
        InvalidInputError: a metric without one value for each query.
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


def finite(value: Any) -> Any:
    """The same value with None for each NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
