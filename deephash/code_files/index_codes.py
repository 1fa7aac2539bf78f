"""From codes to a saved index with their ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deephash.code_files.code_file import read_codes
from deephash.indexes.base import Index
from deephash.indexes.build_index import index
from deephash.indexes.index_folder import check_own_folder
from deephash.ranking import distance as distances
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class HasherInfo:
    """What an index remembers of the hasher that made its codes.

    Args:
        identity: of the hasher.
        bits: code length b.
        distance: what the codes are ranked by.
    """

    identity: str
    bits: int
    distance: Distance


def save_index(
    codes: Tensor, ids: np.ndarray, maker: HasherInfo, kind: str, settings: Mapping[str, Any], out: Path
) -> Index:
    """Build an index and save it with the ids of its codes.

    Args:
        codes: packed uint8 (N, ⌈b/8⌉).
        ids: of the codes, whole numbers or words (N,).
        maker: the hasher that made them.
        kind: of index, or auto.
        settings: the kind's own.
        out: folder of the index.

    Raises:
        InvalidInputError: what building or saving refuses.
    """
    for name in ("codes", "bits", "hasher", "kind", "names", "columns"):
        if name in settings:
            raise InvalidInputError(
                f"{name} is no setting of kind={kind}, but an argument of deephash.index; leave it out."
            )
    check_own_folder(out)
    names = None if np.array_equal(ids, np.arange(len(ids))) else ids
    built = index(codes, kind=kind, hasher=maker, names=names, **settings)
    built.save(out)
    return built


def maker_of(description: Mapping[str, Any]) -> HasherInfo:
    """The hasher that a file of codes names.

    Raises:
        InvalidInputError: a distance that does not exist.
    """
    try:
        settings = dict(description["distance"])
        kind = {
            found.__name__: found for found in (distances.Hamming, distances.Manhattan, distances.VariableManhattan)
        }
        name = settings.pop("name")
        made: Any = kind[name]
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        return HasherInfo(description["hasher"], description["bits"], made(**values))
    except (KeyError, TypeError) as error:
        raise InvalidInputError(f"the codes' description has a damaged distance ({error}); encode again.") from error


def codes_of_file(path: Path) -> tuple[Tensor, np.ndarray, HasherInfo]:
    """Codes, ids and maker of a file of codes.

    Raises:
        InvalidInputError: no file of codes, or a damaged one.
    """
    read = read_codes(path)
    return read.codes, read.ids, maker_of(read.description)
