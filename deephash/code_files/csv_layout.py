"""The beginning of a CSV file: comments, an optional heading, and the names of its columns."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deephash.data.stored_index import ID, REREAD
from deephash.io.files import reading
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

UNNAMED = "Unnamed: {}"
"""Name of a column without a name, by its position, as pandas names it."""
MISSING = frozenset({"", "na", "n/a", "none", "null"})
"""Words for a missing value; nan counts as a number instead."""
SEPARATORS = ";\t| "
HEAD_ROWS = 4
"""Rows to read after the first."""
SAMPLE_ROWS = 100
"""Rows that distinguish columns of numbers from columns of strings."""
MAX_LINE = 1 << 26
"""Maximal length of a line, in characters."""
MAX_COMPRESSED_LINES = 1000
"""Lines of a compressed file in which to look for its first row."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)|[+-]?\d+,\d+", re.IGNORECASE)
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip and zstd."""


@dataclass(frozen=True)
class CsvLayout:
    """Position of the first row of a CSV file, and the names of its columns.

    Args:
        skipped: lines before the heading, or before the first row if there is no heading.
        has_heading: whether a line of names precedes the rows.
        names: names of the columns; their positions from 0 if there is no heading.
        index: names of the columns that are the index of a pandas table.
    """

    skipped: int
    has_heading: bool
    names: tuple[str, ...]
    index: tuple[str, ...]

    def scan(self, path: Path) -> "polars.LazyFrame":
        """Return the lazy table, each column as text.

        If polars reads text, it raises an error for rows that a stray quotation mark joins. If it parsed numbers with
        `ignore_errors`, it would drop such rows with a warning.
        """
        import polars

        return polars.scan_csv(
            path,
            glob=False,
            skip_lines=self.skipped,
            has_header=self.has_heading,
            new_columns=list(self.names),
            schema_overrides=dict.fromkeys(self.names, polars.String),
        )

    def find_words(self, path: Path) -> "dict[str, str | None]":
        """Return, for each column, the first cell that is neither a number nor missing, or None.

        Only `SAMPLE_ROWS` rows are read.
        """
        import polars

        texts = self.scan(path).head(SAMPLE_ROWS).collect()
        if texts.is_empty():
            raise InvalidInputError(f"{path} has no rows; expected at least one item.")
        found = {}
        for column in texts:
            cells = column.drop_nulls()
            cells = cells.filter(~cells.str.strip_chars().str.to_lowercase().is_in(sorted({*MISSING, "nan"})))
            cells = cells.filter(cells.str.strip_chars().cast(polars.Float64, strict=False).is_null())
            found[column.name] = None if cells.is_empty() else str(cells[0])
        return found


def read_layout(path: Path, header: bool | None) -> CsvLayout:
    """Read the layout of a CSV file.

    Blank lines and comments, which start with `#`, are skipped. If the last comment has as many fields as the row of
    numbers below, it is the heading, as `numpy.savetxt` writes it. A first column without a name is an index of pandas.

    Args:
        path: the file.
        header: whether the first line names the columns. None is like True, but an unclear line raises an error.
    """
    with reading(path, ".csv data", "write it again"):
        lines = read_lines(path)
        skipped, comment = 0, ""
        first = next(lines, None)
        while first is not None and (not first.strip() or first.startswith("#")):
            skipped, comment = skipped + 1, first.strip() or comment
            first = next(lines, None)
        if first is None:
            raise ValueError("it has no rows")
        rows = list(itertools.islice(csv.reader(itertools.chain([first], lines)), 1 + HEAD_ROWS))
    check_separator(path, [row for row in rows if row])
    comment_names = next(csv.reader([comment]), [])
    if header is not False and len(comment_names) == len(rows[0]) and any(map(is_number, rows[0])):
        rows, skipped = [comment_names, *rows], skipped - 1
    names = [name.strip() for name in rows[0]]
    names[0] = names[0].removeprefix("#").strip()
    if header is None:
        check_heading(path, names, rows[1:])
    if header is False:
        return CsvLayout(skipped, has_heading=False, names=tuple(map(str, range(len(names)))), index=())
    if names.count(ID) > 1:
        raise InvalidInputError(f"{path} has {names.count(ID)} columns {ID!r}; give each another name.")
    all_names = make_unique(names)
    index = tuple(name for name in all_names if REREAD.fullmatch(name)) if any(names) else ()
    return CsvLayout(skipped, has_heading=True, names=all_names, index=index)


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, which may be compressed by gzip or zstd.

    Raises:
        ValueError: UTF-16, or a line that is too long.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(COMPRESSED):
        import polars

        lines = polars.scan_lines(path, glob=False).head(MAX_COMPRESSED_LINES).collect().to_series()
        yield from (line.removeprefix("\ufeff") + "\n" for line in lines)
        return
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is in UTF-16, and UTF-8 is expected")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        while line := text.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise ValueError(f"a line has more than {MAX_LINE} characters")
            yield line


def check_heading(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raise an error if it is unclear whether the first line is a heading or a row.

    It may be a row if all its fields are numbers or missing. It may also be a row if a single field is a word, such as
    an id, and the column below contains words too. The name of an id column makes the line a heading, and so do numbers
    that count columns, such as 0, 1, 2.
    """
    present = [name for name in names if name.lower() not in MISSING]
    numbers = [name for name in present if is_number(name)]
    words = [place for place, name in enumerate(names) if name in present and not is_number(name)]
    if not numbers or len(words) > 1 or (words and (is_consecutive(numbers) or names[words[0]].lower() == ID)):
        return
    if words and not any(len(row) > words[0] and not is_number(row[words[0]]) for row in rows):
        return
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    content = "only numbers" if not words else "numbers and one word"
    raise InvalidInputError(
        f"the first line of {path} holds {content} ({shown}), so it may be a row or a heading; give --no-header "
        "if it is a row, and --header if it names the columns."
    )


def check_separator(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Raise an error if the columns are not separated by commas."""
    below = rows[1:] or rows
    for separator in SEPARATORS:
        if separator == " " and any(len(row) > 1 for row in rows):
            continue
        parts = [",".join(row).strip().split(separator) for row in rows]
        equal = len({len(row) for row in parts}) == 1 and len(parts[0]) > 1
        if equal and all(sum(not is_number(part) for part in row) <= 1 for row in parts[-len(below) :]):
            named = {"\t": "tabs", " ": "spaces"}.get(separator, repr(separator))
            raise InvalidInputError(
                f"{path} separates its columns by {named}; write it with commas between columns and points in numbers."
            )


def make_unique(names: Sequence[str]) -> tuple[str, ...]:
    """Name columns without a name by their position, and number repeated names."""
    found: dict[str, None] = {}
    for place, name in enumerate(names):
        base = name or UNNAMED.format(place)
        repeats = itertools.chain([base], (f"{base}_duplicated_{count}" for count in itertools.count()))
        found[next(repeat for repeat in repeats if repeat not in found)] = None
    return tuple(found)


def is_number(text: str) -> bool:
    """Return whether a field is a number, with a decimal point or comma."""
    return NUMBER.fullmatch(text.strip()) is not None


def is_consecutive(numbers: Sequence[str]) -> bool:
    """Return whether numbers are whole and each is one more than the previous, like numbers of columns."""
    if not all(number.isdecimal() for number in numbers):
        return False
    return [int(number) for number in numbers] == list(range(int(numbers[0]), int(numbers[0]) + len(numbers)))
