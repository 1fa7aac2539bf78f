"""Values that the metadata of several documents have: their types, bounds and distinct values."""

import json
from collections.abc import Iterable
from typing import Any

Metadata = dict[str, Any]


def list_values(metadatas: Iterable[Metadata], key: str) -> list[Any]:
    """Return the distinct values of a key except None, in the order of their texts; 1, 1.0, "1" and True differ."""
    distinct = {dump_value(each[key]): each[key] for each in metadatas if each.get(key) is not None}
    return sorted(distinct.values(), key=lambda value: (str(value), type(value).__name__))


def dump_value(value: Any) -> str:
    """Return a value as JSON, in which values of different types differ."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def describe_types(metadatas: Iterable[Metadata]) -> dict[str, str]:
    """Return the type of each key: boolean, int, float, or keyword for all others; the last value decides."""
    types = {bool: "boolean", int: "int", float: "float"}
    return {
        key: types.get(type(value), "keyword")
        for metadata in metadatas
        for key, value in metadata.items()
        if value is not None
    }


def find_bounds(metadatas: Iterable[Metadata], key: str) -> tuple[Any, Any]:
    """Return the least and the largest number or text of a key; None without any, or if both occur."""
    values = [each[key] for each in metadatas if isinstance(each.get(key), int | float | str)]
    try:
        return (min(values), max(values)) if values else (None, None)
    except TypeError:
        return None, None
