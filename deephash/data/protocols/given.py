"""A split from a file, of another run or another source."""

import json
from pathlib import Path

import numpy as np
from torch import Tensor

from deephash.data.protocols.base import ROLES, Protocol, Split
from deephash.io.files import reading
from deephash.validation import InvalidInputError

REQUIRED = ("train", "query", "database")


class Given(Protocol):
    """A split read from a file, to reproduce published figures on the same rows.

    The seed has no effect.

    Args:
        path: the split.npz of a run, or a JSON object of row lists, `{"train": [...], "query": [...], "database":
            [...]}`, optionally with validation_query and validation_database. Rows start at 0.

    Raises:
        InvalidInputError: no path, or another type of file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is None:
            raise InvalidInputError(
                "protocol=given reads a split from a file; give it, such as protocol.path=FOLDER/split.npz of a run."
            )
        self.path = Path(path)
        if self.path.suffix not in (".npz", ".json"):
            raise InvalidInputError(
                f"protocol.path={self.path}; expected the .npz file of a run or a .json file of row lists."
            )

    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Read the split; `labels`, `official` and `seed` are ignored.

        Raises:
            InvalidInputError: an unreadable file, bad rows, or rows beyond the data's n.
        """
        split = Split.load(self.path) if self.path.suffix == ".npz" else read_json_split(self.path)
        split.check_fits(n)
        # Only the rows are used; the same items may have other features.
        return split.with_digests({})


def read_json_split(path: Path) -> Split:
    """Read a split from a JSON object of row lists.

    Raises:
        InvalidInputError: a missing file, invalid JSON, unknown or missing parts, or invalid rows.
    """
    with reading(f"protocol.path={path}", "a split in JSON", "repair it or give another"):
        stored = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(stored, dict):
        raise InvalidInputError(
            f"protocol.path={path} contains a {type(stored).__name__}; expected an object of lists."
        )
    unknown = sorted(stored.keys() - set(ROLES))
    if unknown:
        raise InvalidInputError(
            f"protocol.path={path} has the part {unknown[0]!r}; expected one of: {', '.join(ROLES)}."
        )
    missing = [role for role in REQUIRED if role not in stored]
    if missing:
        raise InvalidInputError(f"protocol.path={path} lacks {missing[0]!r}; it must list {', '.join(REQUIRED)}.")
    for role, rows in stored.items():
        if not isinstance(rows, list) or not all(type(row) is int and 0 <= row < 2**63 for row in rows):
            raise InvalidInputError(
                f"protocol.path={path}: {role} must be a list of rows, whole numbers from 0; repair it."
            )
    return Split(**{role: np.array(rows, np.int64) for role, rows in stored.items()})
