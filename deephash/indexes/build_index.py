"""From codes to an index of any kind, by its name or by measured cost."""

import inspect
import time
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash import registry
from deephash.codes import as_codes
from deephash.conversion import plain_numbers
from deephash.indexes.base import Identified, Index
from deephash.indexes.columns import KINDS, NAME, kept_columns
from deephash.io.item_names import as_names
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError, check_choice

AUTO = "auto"
# Below this many codes the scan of queries asked together takes a tenth of a millisecond each: nothing is measured.
MIN_CODES_FOR_TABLES = 250_000
# What is asked of both: queries, each an item of the database, and neighbours, the item itself included.
TRIED_QUERIES, TRIED_NEIGHBOURS = 32, 11
PASSES = 2


def index_kinds() -> list[str]:
    """The kinds of index there are, those of installed packages included."""
    return registry.words("indexes")


def index_class(kind: str) -> type[Index]:
    """The class of a kind.

    Raises:
        InvalidInputError: no such kind.
    """
    found: type[Index] = registry.find("indexes", kind, "kind")
    return found


@plain_numbers
def index(
    codes: Tensor | ArrayLike,
    kind: str = "mih",
    bits: int | None = None,
    hasher: Identified | None = None,
    names: ArrayLike | None = None,
    columns: Any = None,
    **settings: Any,
) -> Index:
    """An index of packed codes, ready to search.

    `kind="auto"` takes the scan or multi-index hashing, whichever answers faster here for queries like the database's
    own codes; both are exact and give equal answers, so the choice changes nothing but the time.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), moved to the CPU.
        kind: mih, flat, faiss_hnsw or another that `index_kinds` lists, or auto.
        bits: code length b; None takes the hasher's, or all bits of the bytes.
        hasher: what made the codes; the index remembers its identity, and `check_hasher` refuses another.
        names: what the items are called elsewhere, whole numbers or words (N,): saved with the index, and given for
            what was found by its `named`; databases keep them as the column `name`. None: their rows.
        columns: further columns that a database (duckdb, lancedb or pgvector) keeps beside the codes, to filter by and
            join with: a frame of polars or pandas, a table of pyarrow, or lists by name, with a row for each code.
        settings: the kind's own, as its YAML lists them.

    Raises:
        InvalidInputError: no such kind or setting, codes of another length, a hasher whose codes are not ranked by
            Hamming distance, names or columns of another number or type, or columns for a kind that keeps none.

    Example:
        >>> codes = torch.tensor([[0b0000], [0b0111], [0b0001]], dtype=torch.uint8)
        >>> distances, ids = index(codes, kind="flat").search(codes[:1], k=2)
        >>> distances.tolist(), ids.tolist()
        ([[0, 1]], [[0, 2]])
    """
    codes = as_codes(codes)
    if codes.ndim != 2:
        raise InvalidInputError(
            f"codes are {tuple(codes.shape)}; expected packed codes uint8 (N, bytes), a tensor or a NumPy array."
        )
    codes = codes.cpu().contiguous()
    if hasher is not None and not isinstance(hasher.distance, Hamming):
        raise InvalidInputError(
            f"the hasher's codes are ranked by {type(hasher.distance).__name__} distance, and an index by Hamming; "
            "rank them with deephash.ranking, or choose a quantiser of Hamming distance, as quantizer=sbq."
        )
    if bits is None:
        bits = 8 * codes.shape[1] if hasher is None else hasher.bits
    elif hasher is not None and bits != hasher.bits:
        raise InvalidInputError(f"bits={bits}, and the hasher gives {hasher.bits}; leave bits out.")
    names = None if names is None else checked_names(names, len(codes))
    if kind == AUTO and columns is None:
        built = faster_exact(codes, bits, **settings)
    else:
        built = built_index(kind, codes, bits, settings, names, columns)
    built.hasher = None if hasher is None else hasher.identity
    built.names = names
    return built


def checked_names(names: ArrayLike, size: int) -> NDArray[Any]:
    """Names of the items of an index, int64 or words.

    Raises:
        InvalidInputError: another number of them, or what `as_names` refuses.
    """
    return as_names(names, "names", size)


def built_index(
    kind: str,
    codes: Tensor,
    bits: int,
    settings: dict[str, Any],
    names: NDArray[Any] | None = None,
    columns: Any = None,
) -> Index:
    """An index of one kind.

    Raises:
        InvalidInputError: no such kind or setting, or columns that it does not keep.
    """
    if kind == AUTO:
        raise keeps_no_columns(kind)
    if kind not in index_kinds():
        check_choice(kind, [*index_kinds(), AUTO], "kind")
    found = index_class(kind)
    # What the constructor takes beside codes and length: also what is not saved, as the scan's engine.
    allowed = sorted(set(inspect.signature(found).parameters) - Index.not_settings)
    for name in settings:
        if name not in allowed:
            raise InvalidInputError(
                f"kind={kind} has no setting {name}; it takes {', '.join(allowed) if allowed else 'none'}."
            )
    if not found.keeps_columns:
        if columns is not None:
            raise keeps_no_columns(kind)
        return found(codes, bits, **settings)
    kept = kept_columns(names, columns, len(codes))
    built = found(codes, bits, **{**settings, "columns": kept})
    built.further = () if kept is None else tuple(name for name in kept.columns if name != NAME)
    return built


def keeps_no_columns(kind: str) -> InvalidInputError:
    """The error of columns for a kind that keeps none."""
    return InvalidInputError(f"kind={kind} keeps no columns; leave them out, or choose one of: {', '.join(KINDS)}.")


def faster_exact(codes: Tensor, bits: int, **settings: Any) -> Index:
    """The scan or multi-index hashing, whichever takes less time for some of the database's own codes.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        settings: those of multi-index hashing.

    Raises:
        InvalidInputError: a setting that multi-index hashing does not have.
    """
    from deephash.indexes.flat import Flat

    flat = Flat(codes, bits)
    if len(codes) < MIN_CODES_FOR_TABLES:
        return flat
    tables = built_index("mih", codes, bits, settings)
    queries = codes[torch.linspace(0, len(codes) - 1, TRIED_QUERIES).long()]
    return min((flat, tables), key=lambda tried: least_seconds(tried, queries))


def least_seconds(tried: Index, queries: Tensor) -> float:
    """Least time of some searches, after one that compiles what is needed."""
    tried.search(queries, TRIED_NEIGHBOURS)
    times = []
    for _ in range(PASSES):
        started = time.perf_counter()
        tried.search(queries, TRIED_NEIGHBOURS)
        times.append(time.perf_counter() - started)
    return min(times)
