"""Haystack's filters as conditions on metadata."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from deephash.integrations import metadata_condition
from deephash.integrations.framework_package import needing
from deephash.integrations.metadata_condition import (
    ALWAYS,
    COMPARISONS,
    NEVER,
    Condition,
    Path,
    all_of,
    any_of,
    has_text,
    negate,
)
from deephash.validation import InvalidInputError

with needing("haystack-ai", "haystack"):
    from haystack.errors import FilterError

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]|$)")
COLUMNS = {"id": "id", "content": "text"}
"""Columns of those fields of a document that a filter can use beside its metadata."""


def as_condition(filters: dict[str, Any] | None) -> Condition:
    """Translate a filter of Haystack; None and {} select all documents.

    Raises:
        FilterError: a filter of another form, or a value that the operator cannot take.
    """
    if not filters:
        return ALWAYS
    try:
        return translate(filters)
    except InvalidInputError as error:
        raise FilterError(str(error)) from error


def translate(filters: Any) -> Condition:
    """Translate a comparison, or conditions that AND, OR or NOT joins."""
    if not isinstance(filters, dict):
        raise FilterError(f"{filters!r} is not a filter; expected a dict.")
    needed = ("field", "operator", "value") if "field" in filters else ("operator", "conditions")
    for key in needed:
        if key not in filters:
            raise FilterError(f"{filters} lacks {key!r}.")
    operator = filters["operator"]
    if "field" in filters:
        return translate_comparison(filters["field"], operator, filters["value"])
    if not isinstance(filters["conditions"], list):
        raise FilterError(f"{filters} has no list of conditions.")
    conditions = [translate(each) for each in filters["conditions"]]
    join: dict[str, Callable[[list[Condition]], Condition]] = {
        "AND": all_of,
        "OR": any_of,
        "NOT": lambda parts: negate(all_of(parts)),
    }
    if operator not in join:
        raise FilterError(f"{operator!r} is not an operator of conditions; expected AND, OR or NOT.")
    return join[operator](conditions)


def translate_comparison(field: str, operator: str, value: Any) -> Condition:
    """Translate a comparison of a field with a value."""
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"{operator!r} needs a list, and the value is {value!r}.")
    if field in COLUMNS:
        return compare_column(field, operator, value)
    path = as_path(field)
    match operator:
        case "==":
            return is_equal(path, value)
        case "!=":
            return negate(is_equal(path, value))
        case "in":
            return is_any(path, value)
        case "not in":
            return negate(is_any(path, value))
    if operator not in COMPARISONS:
        raise FilterError(f"{operator!r} is not an operator; expected ==, !=, >, >=, <, <=, in or not in.")
    if value is None:
        return NEVER
    if isinstance(value, list):
        raise FilterError(f"{operator!r} needs a number or a date, and the value is {value!r}.")
    moment = as_moment(value)
    if moment is not None:
        return metadata_condition.compare_moments(path, operator, moment)
    if isinstance(value, str):
        raise FilterError(f"{operator!r} needs a number or an ISO 8601 date, and the value is {value!r}.")
    return metadata_condition.compare(path, operator, value)


def compare_column(field: str, operator: str, value: Any) -> Condition:
    """Compare the id or the text of a document."""
    values = value if operator in ("in", "not in") else [value]
    if operator not in ("==", "!=", "in", "not in") or not all(isinstance(each, str | None) for each in values):
        raise FilterError(f"{field} {operator} {value!r}; expected ==, !=, in or not in with texts or None.")
    found = [has_text(COLUMNS[field], [each for each in values if each is not None])]
    if None in values:
        found.append(Condition(f"{COLUMNS[field]} IS NULL"))
    return any_of(found) if operator in ("==", "in") else negate(any_of(found))


def as_path(field: Any) -> Path:
    """Return the keys of a field: meta.author.name is author, name; names without meta. are keys, too."""
    if not isinstance(field, str) or field in ("meta", "embedding", "sparse_embedding", "blob", "score"):
        raise FilterError(f"a filter cannot use the field {field!r}; use meta.KEY, id or content.")
    return tuple(field.removeprefix("meta.").split("."))


def is_equal(path: Path, value: Any) -> Condition:
    """Compare with a value; dates are equal if they are the same moment."""
    moment = as_moment(value)
    if moment is None:
        return metadata_condition.equals(path, value)
    same = metadata_condition.compare_moments(path, "=", moment)
    return same if isinstance(value, datetime) else any_of([metadata_condition.equals(path, value), same])


def is_any(path: Path, values: list[Any]) -> Condition:
    """Compare with several values."""
    dates = [value for value in values if as_moment(value) is not None]
    others = [value for value in values if as_moment(value) is None]
    return any_of([metadata_condition.is_one_of(path, others), *(is_equal(path, value) for value in dates)])


def as_moment(value: Any) -> datetime | None:
    """Return the time of a date or an ISO 8601 text, None for other values."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not ISO_DATE.match(value):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
