"""The tables and figures of README.md and docs/ that are made from result files: a name and a function for each.

A table is on its page between `<!-- table: NAME -->` and `<!-- end table -->`, a figure of a sentence between
`<!-- figure: NAME -->` and `<!-- end figure -->`. Each module of this folder may have dictionaries TABLES and FIGURES;
write_tables.py fills the pages with them.
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
    """Return the function of every figure of a sentence by its name.

    Raises:
        ValueError: two modules have a figure of the same name.
    """
    return collect("FIGURES")


def collect(kind: str) -> dict[str, Callable[[], str]]:
    """Return the union of the dictionaries TABLES or FIGURES of all modules."""
    every: dict[str, Callable[[], str]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found = getattr(importlib.import_module(module.name), kind, {})
        if twice := every.keys() & found.keys():
            raise ValueError(f"{module.name} has {kind} of a name that is taken: {sorted(twice)}; rename them.")
        every |= found
    return every
