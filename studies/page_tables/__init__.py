"""Functions that make the tables of README.md and docs/ from result files, by the names of the tables.

A table is on its page between `<!-- table: NAME -->` and `<!-- end table -->`. Each module of this folder has a
dictionary TABLES; write_tables.py fills the pages with them.
"""

import importlib
import pkgutil
from collections.abc import Callable


def all_tables() -> dict[str, Callable[[], str]]:
    """Return the function of every table by its name.

    Raises:
        ValueError: two modules have a table of the same name.
    """
    tables: dict[str, Callable[[], str]] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found = getattr(importlib.import_module(module.name), "TABLES", {})
        if twice := tables.keys() & found.keys():
            raise ValueError(f"{module.name} has tables whose names are taken: {sorted(twice)}; rename them.")
        tables |= found
    return tables
