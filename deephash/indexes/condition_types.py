"""Types of the values that a condition compares: polars compares a date with a number as days or microseconds."""

from typing import TYPE_CHECKING

from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars


def check_dates(condition: "polars.Expr", table: "polars.DataFrame") -> None:
    """Raise an error if a condition compares a date or a time with a number.

    polars counts days from 1970 for such a comparison, so that `day > 20260131` would be false for all items.

    Args:
        condition: the condition.
        table: a table with its columns.

    Raises:
        InvalidInputError: such a comparison.
    """
    import polars

    parents, rest = [], [condition]
    while rest:
        node = rest.pop()
        inputs = node.meta.pop()
        if len(inputs) > 1:
            parents.append((node, inputs))
        rest += inputs
    listed = [part for node, inputs in parents for part in (node, *inputs)]
    named = [part.alias(str(place)) for place, part in enumerate(listed)]
    try:
        kinds = iter(table.clear().lazy().select(named).collect_schema().values())
    except polars.exceptions.PolarsError:
        return  # The condition itself has an error, or an expression of several columns.
    for _, inputs in parents:
        result, *compared = next(kinds), *(next(kinds) for _ in inputs)
        if result != polars.Boolean:
            continue
        dates = [part for part, kind in zip(inputs, compared, strict=True) if kind.is_temporal()]
        numbers = [part for part, kind in zip(inputs, compared, strict=True) if kind.is_numeric()]
        if dates and numbers:
            raise InvalidInputError(
                f"where compares {show(dates[0])}, a date or a time, with {show(numbers[0])}, a number; write dates as "
                "DATE '2026-01-31', or compare DATE_PART('year', ...)."
            )


def show(part: "polars.Expr") -> str:
    """Return a column's name, or a short text of another expression."""
    names = part.meta.root_names()
    text = str(part).removeprefix("dyn int: ").removeprefix("dyn float: ")
    return names[0] if len(names) == 1 and not part.meta.pop() else text[:60]
