"""The index of a pandas table among the columns of a file, which is no feature."""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

NAMELESS = re.compile(r"__index_level_\d+__")
"""What pandas calls an index without a name; other programs keep such a column and drop what says so."""


def index_columns(columns: Iterable[str], metadata: str | bytes | None) -> list[str]:
    """The columns of a Parquet file that are a pandas index.

    Args:
        columns: names of all.
        metadata: what the file holds under the key `pandas`, JSON; None where pandas did not write it.

    Returns:
        Their names, in the file's order; an index that is a range is no column.

    Raises:
        ValueError: metadata that are no JSON. KeyError, TypeError: without such a list.
    """
    # A range is described by an object, a column by its name.
    named = json.loads(metadata)["index_columns"] if metadata else []
    stored = {name for name in named if isinstance(name, str)}
    return [name for name in columns if name in stored or NAMELESS.fullmatch(name)]


def say_left_out(path: Path, names: list[str], option: str) -> None:
    """Say which columns are an index and not taken.

    Args:
        path: the file.
        names: of the columns; nothing is said of none.
        option: what takes them after all.
    """
    if names:
        log.warning(
            "%s: %s left out, the index that pandas stored; %s takes %s.",
            path,
            ", ".join(map(repr, names)),
            option,
            "it" if len(names) == 1 else "them",
        )
