"""Requests that change a served index, and filters of searches."""

from typing import Any

import numpy as np

from deephash.cluster.request_codes import decode_codes
from deephash.indexes.base import Index
from deephash.validation import InvalidInputError

MAX_ITEMS = 10_000
"""Maximal number of items of a request."""
OPERATIONS = ("add", "update", "remove")


def change_index(index: Index, operation: str, asked: Any) -> dict[str, Any]:
    """Carry out a change of a request.

    Args:
        index: the index, open for changes.
        operation: one of OPERATIONS.
        asked: JSON values of the request: `codes`, base64 strings, except for a removal; `names`, except for additions
            to an index without names; and `columns`, lists by name, if the index has columns.

    Returns:
        JSON values of the reply: the names of added items, or the number of removed ones.

    Raises:
        InvalidInputError: values that do not fit the index; nothing is changed.
    """
    if not isinstance(asked, dict):
        raise InvalidInputError('expected {"codes": [BASE64, ...], "names": [...]}, or {"names": [...]} to remove.')
    names, columns = asked.get("names"), asked.get("columns")
    if names is not None and not isinstance(names, list):
        raise InvalidInputError("names are not a list; give a list of numbers or strings.")
    if operation == "remove":
        if names is None:
            raise InvalidInputError("names are missing; give a list of numbers or strings.")
        index.remove(names)
        return {"removed": len(names)}
    codes = asked.get("codes")
    if not isinstance(codes, list) or not 1 <= len(codes) <= MAX_ITEMS:
        raise InvalidInputError(f"expected a list of 1 to {MAX_ITEMS:,} codes in base64 under codes.")
    packed = decode_codes(codes, index.bits)
    if operation == "update":
        if names is None:
            raise InvalidInputError("names are missing; give a list of numbers or strings.")
        ids = index.update(packed, names=names, columns=columns)
    else:
        ids = index.add(packed, names=names, columns=columns)
    return {"ids": index.named(ids).tolist()}


def read_filter(asked: dict[str, Any]) -> Any:
    """Return the filter of a search: names, a condition, or None.

    Raises:
        InvalidInputError: other values.
    """
    where = asked.get("where")
    if where is None or isinstance(where, str):
        return where
    if isinstance(where, list) and len(where) > MAX_ITEMS:
        raise InvalidInputError(f"where has {len(where)} names; expected at most {MAX_ITEMS}: use a condition.")
    if isinstance(where, list) and not any(isinstance(name, bool) for name in where):
        return where if where else np.empty(0, np.int64)
    raise InvalidInputError('where is neither a condition, such as "price < 60", nor a list of names.')
