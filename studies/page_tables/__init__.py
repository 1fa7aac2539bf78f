"""Functions, by name, that make the tables and single numbers of README.md and docs/ from result files.

On a page, a table is between `<!-- table: NAME -->` and `<!-- end table -->`, and a number in a sentence between
`<!-- figure: NAME -->` and `<!-- end figure -->`. Each module of this folder may define dictionaries TABLES and
FIGURES; write_tables.py fills the pages from them.
"""

import importlib
import pkgutil
from collections.abc import Callable


def all_tables() -> dict[str, Callable[[], str]]:
    """Return the function of every table by its name.

    Raises:
        ValueError: two modules have a table of the same name.
    """
    return collect("TABLES")


def all_figures() -> dict[str, Callable[[], str]]:
    """Return the function of every number in a sentence by its name.

    Raises:
        ValueError: two modules have a number of the same name.
    """
    return collect("FIGURES")


def collect(kind: str) -> dict[str, Callable[[], str]]:
    """Return the union of the dictionaries TABLES or FIGURES of all modules."""
    every: dict[str, Callable[[], str]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found = getattr(importlib.import_module(module.name), kind, {})
        if twice := every.keys() & found.keys():
            raise ValueError(f"{module.name} repeats names of {kind} in other modules: {sorted(twice)}; rename them.")
        every |= found
    return every
