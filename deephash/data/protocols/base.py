"""The base class of protocols, and the split that a protocol returns."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.io.files import reading, write_whole
from deephash.io.item_names import as_int64
from deephash.io.npz_file import open_npz
from deephash.validation import InvalidInputError

# What a split notes of its data, by the name of the note; descriptors are noted where they read files, as weights.
DESCRIPTOR_DIGESTS = ("image_descriptor", "text_descriptor")
DIGESTS = {
    **{"features": "features", "labels": "labels"},
    **{name: f"files of the {name.replace('_', ' ')}" for name in DESCRIPTOR_DIGESTS},
}
ROLES = ("train", "query", "database", "validation_query", "validation_database")


def _none() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Split:
    """Rows of a data set by role, each int64, ascending and unique.

    Queries are never trained on and never in the database; the validation parts, where a protocol has them, share
    no row with any other part. Whether training items are also searched is the protocol's to say.

    Args:
        train: rows that projections and quantisers are fitted on.
        query: test queries.
        database: rows that the test queries are ranked against.
        validation_query: queries for choosing hyper-parameters; empty where the protocol has none.
        validation_database: rows that those are ranked against; empty where the protocol has none.
        digests: of the features and labels that the rows are of, as `HashingDataModule.get_digests`; empty where they
            are not known, as of a split made elsewhere or by an earlier version.
        file: where it was read from, for messages.

    Raises:
        InvalidInputError: parts that must be disjoint share rows, or train, query or database is empty.
    """

    train: np.ndarray
    query: np.ndarray
    database: np.ndarray
    validation_query: np.ndarray = field(default_factory=_none)
    validation_database: np.ndarray = field(default_factory=_none)
    digests: Mapping[str, str] = field(default_factory=dict, init=False)
    file: Path | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for role in ROLES:
            rows = np.unique(as_int64(np.asarray(getattr(self, role)), f"split part {role}"))
            if len(rows) != len(getattr(self, role)):
                raise InvalidInputError(f"split part {role} holds a row twice; expected unique rows.")
            if len(rows) and rows[0] < 0:
                raise InvalidInputError(f"split part {role} holds row {rows[0]}; rows start at 0.")
            object.__setattr__(self, role, rows)
        for role in ("train", "query", "database"):
            if len(getattr(self, role)) == 0:
                raise InvalidInputError(f"split part {role} is empty; raise its size in the protocol.")
        apart = [("query", other) for other in ROLES if other != "query"]
        apart += [(v, o) for v in ("validation_query", "validation_database") for o in ("train", "database")]
        apart += [("validation_query", "validation_database")]
        for one, other in apart:
            shared = np.intersect1d(getattr(self, one), getattr(self, other), assume_unique=True)
            if len(shared):
                raise InvalidInputError(
                    f"split parts {one} and {other} share {len(shared)} rows, the first {shared[0]}; they must be "
                    "disjoint."
                )

    def role(self, role: str) -> np.ndarray:
        """Return the rows of a role.

        Raises:
            InvalidInputError: no such role, or this split has no rows for it.
        """
        if role not in ROLES:
            raise InvalidInputError(f"role={role!r}; expected one of: {', '.join(ROLES)}.")
        rows: np.ndarray = getattr(self, role)
        if len(rows) == 0:
            raise InvalidInputError(f"This split has no {role} part; choose a protocol that has one, such as five_way.")
        return rows

    def check_fits(self, n: int) -> None:
        """Raise an error if the data set has fewer items than this split names.

        Raises:
            InvalidInputError: the message names the largest row and n.
        """
        largest = max(int(getattr(self, role)[-1]) for role in ROLES if len(getattr(self, role)))
        if largest >= n:
            raise InvalidInputError(
                f"The split speaks of row {largest}, but the data have {n} items; give its own data."
            )

    def with_digests(self, digests: Mapping[str, str], file: Path | None = None) -> "Split":
        """Return the same rows with the digests of the data and the file of the split."""
        split = copy.copy(self)
        object.__setattr__(split, "digests", dict(digests))
        object.__setattr__(split, "file", file)
        return split

    def check_data(self, digests: Mapping[str, str], files: str = "") -> None:
        """Raise an error if the data differ from the data of this split, if their digests are recorded.

        Args:
            digests: of the data at hand, as `HashingDataModule.get_digests`.
            files: where these come from, in words.

        Raises:
            InvalidInputError: the message names what differs.
        """
        for part, known in self.digests.items():
            found = digests.get(part, "")
            if found != known:
                raise InvalidInputError(
                    f"the {DIGESTS[part]}{f' ({files})' if files else ''} are not those that "
                    f"{self.file or 'this split'} was made for (SHA-256 {found[:12] or 'of none'}, not "
                    f"{known[:12] or 'of none'}): they were changed, or others lie there; restore them, or give these "
                    "to a run of their own."
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
            InvalidInputError: missing or truncated file, or contents that do not match their hash.
        """
        with reading(path, "a split"), open_npz(path) as stored:
            split = cls(**{role: stored[role] for role in ROLES})
            digests = {part: str(stored[f"{part}_digest"]) for part in DIGESTS if f"{part}_digest" in stored}
            expected = str(stored["hash"])
        if split.hash != expected:
            raise InvalidInputError(
                f"{path} does not match its hash; it was changed or damaged: restore it or run again."
            )
        return split.with_digests(digests, path)


class Protocol(PlainArguments, ABC):
    """A rule that draws a split from a data set."""

    @abstractmethod
    def split(self, n: int, labels: Tensor | None, official: np.ndarray | None, seed: int) -> Split:
        """Draw a split.

        Args:
            n: number of items.
            labels: class indices int64 (n,), by which draws are stratified; an indicator bool (n, c) or None are
                drawn without strata.
            official: the publisher's part of each item, "train", "query" or "database", or None.
            seed: same seed, same split.

        Raises:
            InvalidInputError: sizes that n, or a class, cannot give.
        """
