"""How a CSV file begins: lines of comment, a heading or none, and what its columns are called."""

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
"""What a column without a name is called, by its place, as pandas calls it."""
MISSING = frozenset({"", "na", "n/a", "none", "null"})
"""Words for a missing value, beside those that are numbers, as nan."""
SEPARATORS = ";\t| "
HEAD_ROWS = 4
"""Rows after the first that are looked at."""
LOOKED_ROWS = 100
"""Rows that tell columns of numbers from those of words."""
MAX_LINE = 1 << 26
"""Characters of a line of the head."""
MAX_PACKED_LINES = 1000
"""Lines of a packed file among which its first row is sought."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|infinity|nan)|[+-]?\d+,\d+", re.IGNORECASE)
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""First bytes of gzip and zstd."""


@dataclass(frozen=True)
class CsvLayout:
    """Where the rows of a CSV file begin, and what its columns are called.

    Args:
        skipped: lines before the heading, or before the first row where there is none.
        has_heading: whether a line of names precedes the rows.
        names: of the columns; their places from 0 where there is no heading.
        index: those of them that are the index of a pandas table.
    """

    skipped: int
    has_heading: bool
    names: tuple[str, ...]
    index: tuple[str, ...]

    def scan(self, path: Path) -> "polars.LazyFrame":
        """The table, not read yet, each column as text.

        Reading text, polars refuses rows that a stray quotation mark runs together. It warns and drops rows where it
        parses numbers with `ignore_errors`.

        Args:
            path: the file.
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

    def words(self, path: Path) -> "dict[str, str | None]":
        """Of each column the first of `LOOKED_ROWS` cells that is neither a number nor missing; None where all are.

        Raises:
            InvalidInputError: no rows.
        """
        import polars

        texts = self.scan(path).head(LOOKED_ROWS).collect()
        if texts.is_empty():
            raise InvalidInputError(f"{path} has no rows; expected at least one item.")
        found = {}
        for column in texts:
            told = column.drop_nulls()
            told = told.filter(~told.str.strip_chars().str.to_lowercase().is_in(sorted({*MISSING, "nan"})))
            told = told.filter(told.str.strip_chars().cast(polars.Float64, strict=False).is_null())
            found[column.name] = None if told.is_empty() else str(told[0])
        return found


def read_layout(path: Path, header: bool | None) -> CsvLayout:
    """How a CSV file begins.

    Blank lines and comments, which start with `#`, are skipped; a last comment of as many fields as the row of numbers
    below is the heading, as `numpy.savetxt` writes it. A first column without a name is an index of pandas.

    Args:
        path: the file.
        header: whether the first line names the columns; None takes it for names unless they are numbers.

    Raises:
        InvalidInputError: an empty file, columns that commas do not separate, or a first line that may be a heading or
            a row.
    """
    with reading(path, ".csv data", "write it again"):
        lines = head_lines(path)
        skipped, comment = 0, ""
        first = next(lines, None)
        while first is not None and (not first.strip() or first.startswith("#")):
            skipped, comment = skipped + 1, first.strip() or comment
            first = next(lines, None)
        if first is None:
            raise ValueError("it has no rows")
        rows = list(itertools.islice(csv.reader(itertools.chain([first], lines)), 1 + HEAD_ROWS))
    check_separator(path, [row for row in rows if row])
    named_by_comment = next(csv.reader([comment]), [])
    if header is not False and len(named_by_comment) == len(rows[0]) and any(map(is_number, rows[0])):
        rows, skipped = [named_by_comment, *rows], skipped - 1
    names = [name.strip() for name in rows[0]]
    names[0] = names[0].removeprefix("#").strip()
    if header is None:
        check_heading(path, names, rows[1:])
    if header is False:
        return CsvLayout(skipped, has_heading=False, names=tuple(map(str, range(len(names)))), index=())
    if names.count(ID) > 1:
        raise InvalidInputError(f"{path} has {names.count(ID)} columns {ID!r}; give each a name of its own.")
    whole = unique_names(names)
    index = tuple(name for name in whole if REREAD.fullmatch(name)) if any(names) else ()
    return CsvLayout(skipped, has_heading=True, names=whole, index=index)


def head_lines(path: Path) -> Iterator[str]:
    """The lines of a file, one after another, also of one that gzip or zstd packed.

    Raises:
        ValueError: UTF-16, or a line that is no line of a table.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(PACKED):
        import polars

        found = polars.scan_lines(path, glob=False).head(MAX_PACKED_LINES).collect().to_series()
        yield from (line.removeprefix("\ufeff") + "\n" for line in found)
        return
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is in UTF-16, and UTF-8 is expected")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        while line := text.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise ValueError(f"a line has more than {MAX_LINE} characters")
            yield line


def check_heading(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Raise an error for a first line that may be a row.

    It may be one where all its fields are numbers or missing. It may also be one where a single field is a word, as the
    id of a row is, and the column below holds words too. The word that always names ids makes a heading, and so do
    numbers that count columns, as 0, 1, 2.

    Raises:
        InvalidInputError: naming what the line holds and the option that says what it is.
    """
    told = [name for name in names if name.lower() not in MISSING]
    numbers = [name for name in told if is_number(name)]
    words = [place for place, name in enumerate(names) if name in told and not is_number(name)]
    if not numbers or len(words) > 1 or (words and (counts_on(numbers) or names[words[0]].lower() == ID)):
        return
    if words and not any(len(row) > words[0] and not is_number(row[words[0]]) for row in rows):
        return
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    holds = "numbers alone" if not words else "numbers and one word"
    raise InvalidInputError(
        f"the first line of {path} holds {holds} ({shown}): a row, or names of columns; give --no-header where it is a "
        "row, and --header where it is names."
    )


def check_separator(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Raise an error for columns that something else than a comma separates.

    Raises:
        InvalidInputError: naming what does.
    """
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


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, those without one called by their place, and repeated ones numbered."""
    found: dict[str, None] = {}
    for place, name in enumerate(names):
        wanted = name or UNNAMED.format(place)
        repeats = itertools.chain([wanted], (f"{wanted}_duplicated_{count}" for count in itertools.count()))
        found[next(repeat for repeat in repeats if repeat not in found)] = None
    return tuple(found)


def is_number(text: str) -> bool:
    """Whether a field is a number, with a decimal point or comma."""
    return NUMBER.fullmatch(text.strip()) is not None


def counts_on(numbers: Sequence[str]) -> bool:
    """Whether numbers are whole and each is one more than the one before, as columns are counted."""
    if not all(number.isdecimal() for number in numbers):
        return False
    return [int(number) for number in numbers] == list(range(int(numbers[0]), int(numbers[0]) + len(numbers)))
