"""Filters of a search: a mask, a list of names, or an expression over the columns of the items."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.condition_text import check_condition
from deephash.indexes.condition_types import check_dates
from deephash.indexes.item_rows import ROW, Items
from deephash.io.files import describe_error
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

Where = Any
"""A filter: bool (N,) in the order of the ids, names, or an expression, text of SQL or of polars."""


def select_rows(items: Items, where: Where) -> NDArray[np.bool_]:
    """Return which rows a filter selects, bool (rows,), possibly the user's own mask; removed rows may be among them.

    Args:
        items: items of the index.
        where: bool (N,) for the N items in the order of their ids; names of items; or an expression over `id`, `name`
            and the columns of the index, in SQL or of polars.

    Raises:
        InvalidInputError: a mask of another length, unknown names, or an expression that is not a condition.
    """
    if isinstance(where, str) or is_expression(where):
        return select_by_expression(items, where)
    mask = as_mask(where)
    if mask is None:
        selected = np.zeros(items.rows, bool)
        selected[items.find_items(where, "the names of where")[1]] = True
        return selected
    if mask.shape != (items.live,):
        raise InvalidInputError(f"where is a mask of shape {mask.shape}; expected ({items.live},), one for each item.")
    if items.alive is None:
        # Kernels are compiled for arrays that can be written to.
        return np.require(mask, requirements=["C", "W"])
    selected = np.zeros(items.rows, bool)
    selected[items.alive] = mask
    return selected


def is_expression(where: Where) -> bool:
    """Return whether a filter is an expression of polars, without importing polars for other filters."""
    if not type(where).__module__.startswith("polars"):
        return False
    import polars

    return isinstance(where, polars.Expr)


def as_mask(where: Where) -> NDArray[np.bool_] | None:
    """Return a filter as an array if it is a mask, and None for names."""
    if isinstance(where, Tensor):
        return where.cpu().numpy() if where.dtype == torch.bool else None
    if isinstance(where, list | tuple):
        return np.array(where) if len(where) and all(isinstance(each, bool | np.bool_) for each in where) else None
    array = np.asarray(where)
    return array if array.dtype == np.bool_ else None


def select_by_expression(items: Items, where: "str | polars.Expr") -> NDArray[np.bool_]:
    """Return which rows fulfil a condition; a condition without a value, such as one on a missing price, is false."""
    selected = np.zeros(items.rows, bool)
    named = [] if items.names is None else ["name"]
    further = [] if items.columns is None else items.columns.columns
    columns = ["id", *named, *further]
    if isinstance(where, str):
        check_condition(where, columns)
    with filtering(where, columns):
        import polars

        condition = polars.sql_expr(where) if isinstance(where, str) else where
        table = items.table(None if condition.meta.has_multiple_outputs() else condition.meta.root_names())
        check_dates(condition, table)
        selected[table.filter(condition)[ROW].to_numpy()] = True
    return selected


@contextmanager
def filtering(where: "str | polars.Expr", columns: Sequence[str] = ()) -> Iterator[None]:
    """Turn any error of an engine about a condition into one line.

    Args:
        where: the condition.
        columns: columns that a condition can use, for the message.

    Raises:
        InvalidInputError: any error of the block.
    """
    try:
        yield
    except (InvalidInputError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # A panic of polars is no Exception.
        of = f" on {', '.join(columns)}" if columns else ""
        text, reason = " ".join(str(where).split())[:200], describe_error(error)
        # polars advises objects of Python, which a condition in SQL cannot contain.
        advice = "write dates as DATE '2026-01-31'" if "cannot compare 'date/" in reason else "correct it"
        raise InvalidInputError(f"where={text!r} is not a condition{of} ({reason}); {advice}.") from error
