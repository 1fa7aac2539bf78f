"""Codes that a fit learns directly for its training items, for protocols that use them as codes of the database."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.codes import pack
from deephash.data.base import HashingDataModule
from deephash.data.views import Views
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.hasher_views import get_views
from deephash.io.files import reading
from deephash.io.npz_file import open_npz, write_npz
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError

FUNCTIONS, LEARNT = "functions", "learnt"
# Codes of the database: those of the hash functions, as for queries, or those that the fit learnt for its items.
DATABASE_CODES = (FUNCTIONS, LEARNT)
FILE = "learnt_codes.npz"


@dataclass(frozen=True)
class LearntCodes:
    """Codes that a fit learnt for its training items.

    Args:
        codes: packed, uint8 (n, ⌈b/8⌉), the same for every view.
        ids: int64 (n,), rows of the items in the data set.
    """

    codes: Tensor
    ids: Tensor

    def select(self, ids: Tensor) -> Tensor:
        """Return the learnt codes of the items in rows `ids`, int64 (m,), of the data set.

        Raises:
            InvalidInputError: an item that was not trained on.
        """
        order = self.ids.argsort()
        places = torch.searchsorted(self.ids[order], ids).clamp_max(len(order) - 1)
        unknown = int((self.ids[order][places] != ids).sum())
        if unknown:
            raise InvalidInputError(describe_untrained(unknown, len(ids)))
        return self.codes[order[places]]

    def save(self, folder: Path) -> None:
        """Write `learnt_codes.npz` into a hasher's folder."""
        write_npz(folder / FILE, codes=self.codes.numpy(), ids=self.ids.numpy())


def load_learnt(folder: Path) -> LearntCodes | None:
    """Load the learnt codes in a hasher's folder; return None if there are none.

    Raises:
        InvalidInputError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    with reading(path, "learnt codes", "restore it or fit again"):
        with open_npz(path) as stored:
            codes, ids = stored["codes"], stored["ids"]
        if codes.dtype != np.uint8 or codes.ndim != 2 or ids.dtype != np.int64 or ids.shape != codes.shape[:1]:
            raise ValueError(f"codes {codes.dtype} {codes.shape}, ids {ids.dtype} {ids.shape}")
        return LearntCodes(torch.from_numpy(codes), torch.from_numpy(ids))


def extract_learnt_codes(
    hasher: Hasher | CrossModalHasher, features: Tensor | Views, ids: Tensor
) -> LearntCodes | None:
    """Return the codes that a fit learnt for its items; None if it learnt none comparable with encoded codes.

    Args:
        hasher: hasher that has just been fitted.
        features: features of the training items.
        ids: int64 (n,), their rows in the data set.
    """
    bits = getattr(hasher.projection, "learnt_codes", None)
    if bits is None or not all(isinstance(part.quantizer, SBQ) for part in get_views(hasher).values()):
        return None
    if isinstance(features, Views):
        ids = ids[features.complete.to(ids.device)]
    # A fit on a sample of the pairs only learns the codes of the sample.
    return LearntCodes(pack(bits).cpu(), ids.cpu()) if len(bits) == len(ids) else None


def check_learnt(found: LearntCodes | None, hasher: Hasher | CrossModalHasher) -> LearntCodes:
    """Return the learnt codes, or raise an error if there are none.

    Raises:
        InvalidInputError: the method or the quantiser has no learnt codes.
    """
    if found is not None:
        return found
    quantizer = next(iter(get_views(hasher).values())).quantizer
    if not isinstance(quantizer, SBQ):
        raise InvalidInputError(
            f"metrics.database_codes={LEARNT}: learnt bits need one threshold per projection, but "
            f"{type(quantizer).__name__} uses others; choose quantizer=sbq or metrics.database_codes={FUNCTIONS}."
        )
    raise InvalidInputError(
        f"metrics.database_codes={LEARNT}: {type(hasher.projection).__name__} learnt no codes of its training items; "
        f"choose a method that learns them, such as method=cmfh, or metrics.database_codes={FUNCTIONS}."
    )


def check_trained_on(data: HashingDataModule, database_role: str) -> None:
    """Raise an error, before anything is fitted, if the database has items that are not trained on.

    Raises:
        InvalidInputError: there are such items; the message gives their number.
    """
    database = data.ids(database_role)
    unknown = int((~np.isin(database, data.ids("train"))).sum())
    if unknown:
        raise InvalidInputError(describe_untrained(unknown, len(database)))


def describe_untrained(unknown: int, items: int) -> str:
    """Return the reason why the database has no learnt codes."""
    return (
        f"metrics.database_codes={LEARNT}: {unknown} of the {items} items of the database have no learnt code, "
        "because they were not trained on in all views; choose a protocol whose database is its training part, such as "
        f"protocol=official of data=wiki, or metrics.database_codes={FUNCTIONS}."
    )
