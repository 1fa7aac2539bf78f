"""The base class of protocols, and the split that a protocol returns."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.io.files import reading, write_whole
from deephash.io.item_names import as_int64
from deephash.io.npz_file import open_npz
from deephash.validation import InvalidInputError

# Names and descriptions of the digests in a split; descriptors have one only if they read files such as weights.
DESCRIPTOR_DIGESTS = ("image_descriptor", "text_descriptor")
DIGESTS = {
    **{"features": "features", "labels": "labels", "judgements": "judgements"},
    **{name: f"files of the {name.replace('_', ' ')}" for name in DESCRIPTOR_DIGESTS},
}
ROLES = ("train", "query", "database", "validation_query", "validation_database")


def _build_empty_rows() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Split:
    """Rows of a data set by role, each int64, ascending and unique.

    Queries are never in the training part or the database, and validation parts share no row with any other part. The
    protocol determines whether training items are also searched.

    Args:
        train: rows that projections and quantisers are fitted on.
        query: test queries.
        database: rows against which the test queries are ranked.
        validation_query: queries for choosing hyper-parameters; empty without validation.
        validation_database: rows against which the validation queries are ranked; empty without validation.
        digests: digests of the data, as from `HashingDataModule.get_digests`; empty if they are unknown, as for a split
            from another source or an earlier version.
        file: file of the split, for messages.

    Raises:
        InvalidInputError: parts that must be disjoint share rows, or train, query or database is empty.
    """

    train: np.ndarray
    query: np.ndarray
    database: np.ndarray
    validation_query: np.ndarray = field(default_factory=_build_empty_rows)
    validation_database: np.ndarray = field(default_factory=_build_empty_rows)
    digests: Mapping[str, str] = field(default_factory=dict, init=False)
    file: Path | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for role in ROLES:
            rows = np.unique(as_int64(np.asarray(getattr(self, role)), f"split part {role}"))
            if len(rows) != len(getattr(self, role)):
                raise InvalidInputError(f"split part {role} has a row twice; expected unique rows.")
            if len(rows) and rows[0] < 0:
                raise InvalidInputError(f"split part {role} has row {rows[0]}; rows start at 0.")
            object.__setattr__(self, role, rows)
        for role in ("train", "query", "database"):
            if len(getattr(self, role)) == 0:
                raise InvalidInputError(f"split part {role} is empty; raise its size in the protocol.")
        disjoint = [("query", role) for role in ROLES if role != "query"]
        disjoint += [(v, role) for v in ("validation_query", "validation_database") for role in ("train", "database")]
        disjoint += [("validation_query", "validation_database")]
        for first, second in disjoint:
            shared = np.intersect1d(getattr(self, first), getattr(self, second), assume_unique=True)
            if len(shared):
                raise InvalidInputError(
                    f"split parts {first} and {second} share {len(shared)} rows, the first {shared[0]}; they must be "
                    "disjoint."
                )

    def role(self, role: str) -> np.ndarray:
        """Return the rows of a role.

        Raises:
            InvalidInputError: an unknown role, or one without rows in this split.
        """
        if role not in ROLES:
            raise InvalidInputError(f"role={role!r}; expected one of: {', '.join(ROLES)}.")
        rows: np.ndarray = getattr(self, role)
        if len(rows) == 0:
            raise InvalidInputError(
                f"This split has no {role} part; choose a protocol with this part, such as protocol=five_way."
            )
        return rows

    def check_fits(self, n: int) -> None:
        """Raise an error if rows of this split exceed the number of items n.

        Raises:
            InvalidInputError: the message has the largest row and n.
        """
        largest = max(int(getattr(self, role)[-1]) for role in ROLES if len(getattr(self, role)))
        if largest >= n:
            raise InvalidInputError(
                f"The split has row {largest}, but the data have {n} items; give the data of the split."
            )

    def with_digests(self, digests: Mapping[str, str], file: Path | None = None) -> "Split":
        """Return the same rows with the digests of the data and the file of the split."""
        split = copy.copy(self)
        object.__setattr__(split, "digests", dict(digests))
        object.__setattr__(split, "file", file)
        return split

    def check_data(self, digests: Mapping[str, str], files: str = "") -> None:
        """Raise an error if the recorded digests of this split differ from those of the data.

        Args:
            digests: digests of the given data, as from `HashingDataModule.get_digests`.
            files: names of the data files, for the message.

        Raises:
            InvalidInputError: the message names the difference.
        """
        for part, expected in self.digests.items():
            actual = digests.get(part, "")
            if actual != expected:
                raise InvalidInputError(
                    f"the {DIGESTS[part]}{f' ({files})' if files else ''} are not those that "
                    f"{self.file or 'this split'} was made for (SHA-256 {actual[:12] or 'of none'}, not "
                    f"{expected[:12] or 'of none'}): they were changed or replaced; restore them, or use the new data "
                    "in a new run."
                )

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of all parts in order; equal hashes mean equal splits."""
        digest = hashlib.sha256()
        for role in ROLES:
            rows = np.ascontiguousarray(getattr(self, role), "<i8")
            digest.update(f"{role}:{len(rows)};".encode())
            digest.update(rows.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the parts, their hash and the digests of the data atomically to an `.npz` file."""
        parts = {role: getattr(self, role) for role in ROLES}
        parts |= {f"{part}_digest": np.array(digest) for part, digest in self.digests.items()}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, hash=np.array(self.hash), **parts)

        write_whole(path, write)

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Read a split that `save` wrote.

        Raises:
            InvalidInputError: a missing or truncated file, or contents that do not match their hash.
        """
        with reading(path, "a split"), open_npz(path) as stored:
            split = cls(**{role: stored[role] for role in ROLES})
            digests = {part: str(stored[f"{part}_digest"]) for part in DIGESTS if f"{part}_digest" in stored}
            expected = str(stored["hash"])
        if split.hash != expected:
            raise InvalidInputError(
                f"{path} does not match its hash; it was changed or damaged: restore it or start a new run."
            )
        return split.with_digests(digests, path)


class Protocol(PlainArguments, ABC):
    """A rule that draws a split from a data set."""

    needs_labels: ClassVar[bool] = False
    """Whether the rule needs labels."""

    @abstractmethod
    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Draw a split.

        Args:
            n: number of items.
            labels: class indices int64 (n,) for stratified draws. With an indicator bool (n, c) or None, draws
                are not stratified.
            official: the publisher's part of each item, "train", "query", "database" or "both" (train and database),
                or None.
            seed: equal seeds give equal splits.

        Raises:
            InvalidInputError: sizes that exceed n or the size of a class.
        """
