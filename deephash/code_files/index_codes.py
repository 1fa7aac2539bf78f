"""Build and save an index from codes with their ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deephash.code_files.code_file import read_codes
from deephash.code_files.item_columns import read_item_columns
from deephash.indexes.base import Index
from deephash.indexes.build_index import index
from deephash.indexes.index_writing import check_own_folder
from deephash.ranking import distance as distances
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class HasherInfo:
    """Record of the hasher that made the codes of an index.

    Args:
        identity: identity of the hasher.
        bits: code length b.
        distance: distance that ranks the codes.
    """

    identity: str
    bits: int
    distance: Distance


def save_index(
    codes: Tensor,
    ids: np.ndarray,
    hasher: HasherInfo,
    kind: str,
    settings: Mapping[str, Any],
    out: Path,
    columns: Path | None = None,
    recall: float = 1.0,
) -> Index:
    """Build an index, and save it with the ids of its codes.

    Args:
        codes: packed uint8 (N, ⌈b/8⌉).
        ids: ids of the codes, whole numbers or strings (N,).
        hasher: the hasher that made the codes.
        kind: kind of index, or auto.
        settings: settings of the kind.
        out: folder of the index.
        columns: table of further columns of the items; see `read_item_columns`.
        recall: share of neighbours that kind="auto" must find.

    Raises:
        InvalidInputError: a setting that the kind does not have, or an error of the table, of building or of saving.
    """
    for name in ("codes", "bits", "hasher", "kind", "names", "columns", "recall", "seed"):
        if name in settings:
            raise InvalidInputError(
                f"{name} is not a setting of kind={kind}, but an argument of deephash.index; leave it out."
            )
    check_own_folder(out)
    names = None if np.array_equal(ids, np.arange(len(ids))) else ids
    further = None if columns is None else read_item_columns(columns, ids)
    built = index(codes, kind=kind, hasher=hasher, names=names, columns=further, recall=recall, **settings)
    built.save(out)
    return built


def read_hasher_info(description: Mapping[str, Any]) -> HasherInfo:
    """Return the hasher that the description of a file of codes names.

    Raises:
        InvalidInputError: an unknown distance, or damaged settings of it.
    """
    try:
        settings = dict(description["distance"])
        kinds = {kind.__name__: kind for kind in (distances.Hamming, distances.Manhattan, distances.VariableManhattan)}
        kind: Any = kinds[settings.pop("name")]
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        return HasherInfo(description["hasher"], description["bits"], kind(**values))
    except (KeyError, TypeError) as error:
        raise InvalidInputError(f"the codes' description has a damaged distance ({error}); encode again.") from error


def read_codes_and_hasher(path: Path) -> tuple[Tensor, np.ndarray, HasherInfo]:
    """Read codes, ids and the hasher of a file of codes.

    Raises:
        InvalidInputError: not a file of codes, or a damaged one.
    """
    read = read_codes(path)
    return read.codes, read.ids, read_hasher_info(read.description)
