"""Conditions on the metadata of documents, as SQL over JSON that SQLite evaluates.

A condition is true, false or, for a value of another type than it expects, false. Values are parameters of the SQL,
never part of its text. A path is the keys to a value: ("author", "name") for {"author": {"name": ...}}.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from deephash.validation import InvalidInputError

Path = tuple[str, ...]
COMPARISONS = ("<", "<=", ">", ">=")
WHOLE_LIMIT = 2**63
"""Larger whole numbers are stored and compared as floats."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Condition:
    """A condition in SQL, on the columns `id`, `text`, `parent` and `metadata` of a document.

    Args:
        sql: the condition, with ? for each parameter.
        parameters: values of the parameters.
    """

    sql: str
    parameters: tuple[Any, ...] = ()


ALWAYS, NEVER = Condition("TRUE"), Condition("FALSE")


def equals(path: Path, value: Any) -> Condition:
    """Compare with a value: None for null or a missing key, a truth value, a number, a text, or a list of these.

    Types are strict: 1 differs from "1" and from true, but equals 1.0.
    """
    where = json_path(path)
    if isinstance(value, list | tuple):
        text = json.dumps(list(map(as_value, value)), ensure_ascii=False, separators=(",", ":"))
        sql = "json_type(metadata, ?) = 'array' AND json_extract(metadata, ?) = json(?)"
        return Condition(sql, (where, where, text))
    value = as_value(value)
    if value is None:
        return Condition("json_extract(metadata, ?) IS NULL", (where,))
    if isinstance(value, bool):
        return Condition("json_type(metadata, ?) = ?", (where, "true" if value else "false"))
    return compare_values(where, "=", value)


def compare(path: Path, operator: str, value: Any) -> Condition:
    """Compare numbers with a number, or texts with a text, by <, <=, > or >=; texts in the order of their characters.

    Raises:
        InvalidInputError: a value that has no order.
    """
    value = as_value(value)
    if value is None or isinstance(value, bool):
        raise InvalidInputError(f"{'.'.join(path)} {operator} {value!r}; give a number or a text to compare with.")
    return compare_values(json_path(path), operator, value)


def compare_values(where: str, operator: str, value: Any) -> Condition:
    """Compare the values at a path with a text or a number."""
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    # The comparison comes first: it is false for most documents, so that few types are looked up.
    sql = f"json_extract(metadata, ?) {operator} ? AND json_type(metadata, ?) IN {kinds}"
    return Condition(sql, (where, value, where))


def compare_moments(path: Path, operator: str, moment: datetime) -> Condition:
    """Compare ISO 8601 texts with a time by =, <, <=, > or >=; other values are never equal, less or greater.

    If only one of both times has a zone, the other is taken to be in the same.
    """
    zone = None if moment.tzinfo is None else (moment.utcoffset() or timedelta()).total_seconds()
    where, seconds = json_path(path), seconds_of(moment.isoformat(), zone)
    sql = f"json_type(metadata, ?) = 'text' AND seconds_of(json_extract(metadata, ?), ?) {operator} ?"
    return Condition(sql, (where, where, zone, seconds))


def seconds_of(text: str, zone: float | None) -> float | None:
    """Return the seconds since 1970 of an ISO 8601 text, a function of the SQL; None for another text.

    Args:
        text: the text.
        zone: offset from UTC, in seconds, of texts without one; None ignores the offsets of all texts.
    """
    try:
        moment = datetime.fromisoformat(text)
        if zone is None:
            moment = moment.replace(tzinfo=UTC)
        elif moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone(timedelta(seconds=zone)))
        return (moment - EPOCH).total_seconds()
    except (ValueError, OverflowError):
        return None


def is_one_of(path: Path, values: Sequence[Any]) -> Condition:
    """Compare with several values, as `equals` does with one."""
    simple = [as_value(value) for value in values if not isinstance(value, list | tuple)]
    texts = [value for value in simple if isinstance(value, str)]
    numbers = [value for value in simple if isinstance(value, int | float) and not isinstance(value, bool)]
    others = [value for value in simple if value is None or isinstance(value, bool)]
    found = [equals(path, value) for value in [*others, *(each for each in values if isinstance(each, list | tuple))]]
    where = json_path(path)
    for kinds, members in (("('text')", texts), ("('integer', 'real')", numbers)):
        if members:
            sql = f"json_extract(metadata, ?) IN (SELECT value FROM json_each(?)) AND json_type(metadata, ?) IN {kinds}"
            found.append(Condition(sql, (where, json.dumps(members, ensure_ascii=False), where)))
    return any_of(found)


def contains(path: Path, value: Any) -> Condition:
    """Find a value in a list, or a text in a text."""
    where, value = json_path(path), as_value(value)
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    if isinstance(value, bool):
        kinds, value = f"('{json.dumps(value)}')", int(value)
    sql = (
        "json_type(metadata, ?) = 'array' AND EXISTS "
        f"(SELECT 1 FROM json_each(metadata, ?) AS each WHERE each.type IN {kinds} AND each.value = ?)"
    )
    in_list = Condition(sql, (where, where, value))
    return any_of([in_list, contains_text(path, value)]) if isinstance(value, str) else in_list


def contains_text(path: Path, text: str, *, ignore_case: bool = False) -> Condition:
    """Find a text in a text."""
    where = json_path(path)
    value, part = (
        ("casefold(json_extract(metadata, ?))", text.casefold())
        if ignore_case
        else (
            "json_extract(metadata, ?)",
            text,
        )
    )
    return Condition(f"json_type(metadata, ?) = 'text' AND instr({value}, ?) > 0", (where, where, part))


def matches_pattern(path: Path, pattern: str, *, ignore_case: bool = False) -> Condition:
    """Match a text by the pattern of SQL's LIKE: % for any characters, _ for one."""
    where = json_path(path)
    sql = "json_type(metadata, ?) = 'text' AND matches(json_extract(metadata, ?), ?, ?)"
    return Condition(sql, (where, where, pattern, ignore_case))


def exists(path: Path) -> Condition:
    """Check that the metadata have a key, also if its value is null."""
    return Condition("json_type(metadata, ?) IS NOT NULL", (json_path(path),))


def is_empty(path: Path) -> Condition:
    """Check that a key is missing, or its value is null, an empty text or an empty list."""
    return is_one_of(path, (None, "", []))


def has_text(column: str, values: Sequence[str]) -> Condition:
    """Check that the column `id`, `text` or `parent` has one of the values."""
    assert column in ("id", "text", "parent")
    return Condition(f"{column} IN (SELECT value FROM json_each(?))", (json.dumps(list(values), ensure_ascii=False),))


def all_of(conditions: Sequence[Condition]) -> Condition:
    """Combine conditions by AND; true without any."""
    return join("AND", conditions) if conditions else ALWAYS


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Combine conditions by OR; false without any."""
    return join("OR", conditions) if conditions else NEVER


def negate(condition: Condition) -> Condition:
    """Negate a condition; true where it has no value."""
    return Condition(f"({condition.sql}) IS NOT TRUE", condition.parameters)


def join(word: str, conditions: Sequence[Condition]) -> Condition:
    """Join conditions as a balanced tree: the depth of expressions in SQLite is limited."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    first, second = join(word, conditions[:half]), join(word, conditions[half:])
    return Condition(f"({first.sql}) {word} ({second.sql})", first.parameters + second.parameters)


def json_path(path: Path) -> str:
    """Return a path in SQLite's syntax.

    Raises:
        InvalidInputError: a key that SQLite cannot name.
    """
    for key in path:
        if not isinstance(key, str) or not key or any(each in '"\\' or each < " " for each in key):
            raise InvalidInputError(
                f"the filter names the key {key!r}; a filter needs a text without quotation marks, backslashes and "
                "control characters: rename the key in the metadata."
            )
    return "$" + "".join(f'."{key}"' for key in path)


def as_value(value: Any) -> Any:
    """Convert a value of a filter to one that SQLite compares.

    Raises:
        InvalidInputError: a value other than None, truth values, finite numbers and texts.
    """
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # NumPy's numbers
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool) and not -WHOLE_LIMIT <= value < WHOLE_LIMIT:
        return float(value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InvalidInputError(f"the filter contains {value!r}; expected a text, a finite number, a truth value or None.")
