"""Build an index of packed codes: of a given kind, or of the kind that is faster when measured."""

import inspect
import time
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deephash import registry
from deephash.codes import as_codes
from deephash.conversion import convert_numpy_numbers
from deephash.indexes.base import Identified, Index
from deephash.indexes.columns import NAME, as_columns, collect_columns
from deephash.io.item_names import as_names
from deephash.ranking.distance import Hamming
from deephash.validation import InvalidInputError, check_choice

AUTO = "auto"
# With fewer codes, nothing is measured: a scan takes a tenth of a millisecond for each query of a batch.
MIN_CODES_FOR_TABLES = 250_000
# A timed search has this number of queries, which are items of the database, and finds this number of neighbours of
# each, including the item itself.
TRIED_QUERIES, TRIED_NEIGHBOURS = 32, 11
PASSES = 2


def index_kinds() -> list[str]:
    """Return the kinds of index, including those of installed packages."""
    return registry.list_words("indexes")


def index_class(kind: str) -> type[Index]:
    """Return the class of a kind."""
    found: type[Index] = registry.find("indexes", kind, "kind")
    return found


@convert_numpy_numbers
def index(
    codes: Tensor | ArrayLike,
    kind: str = "mih",
    bits: int | None = None,
    hasher: Identified | None = None,
    names: ArrayLike | None = None,
    columns: Any = None,
    *,
    recall: float = 1.0,
    seed: int = 0,
    **settings: Any,
) -> Index:
    """Build an index of packed codes.

    `kind="auto"` builds the scan or multi-index hashing, whichever answers faster on this machine for queries like the
    database's own codes. Both are exact and return the same neighbours. With `recall` below 1, approximate kinds whose
    packages are installed are tried, too; see `deephash.indexes.choose_index`. `choice` of the index tells what was
    tried.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), moved to the CPU.
        kind: mih, flat, faiss_hnsw or another that `index_kinds` lists, or auto.
        bits: code length b; None uses the hasher's, or all bits of the bytes.
        hasher: the hasher that made the codes; the index stores its identity, and `check_hasher` compares it.
        names: the user's names of the items, whole numbers or strings (N,). They are saved with the index, and its
            `named` returns them for ids. Databases store them in the column `name`. None names items by their rows.
        columns: further columns to filter by, `search(..., where="price < 60")`: a frame of polars or pandas, a table
            of pyarrow, or lists by name, with a row for each code. A database (duckdb, lancedb or pgvector) stores them
            beside the codes; other kinds keep them in memory and in a file.
        recall: share of the 10 nearest neighbours that kind="auto" must find, above 0; an item as near as the tenth
            counts, whichever it is. 1 tries exact kinds alone.
        seed: seed of the sampled codes of kind="auto".
        settings: settings of the kind, as its YAML lists them; for kind="auto", those of mih.

    Raises:
        InvalidInputError: an unknown kind or setting, a recall that is not above 0 and at most 1, codes of the wrong
            length, a hasher whose codes are not ranked by Hamming distance, or names or columns of another number or
            type.

    Examples:
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
            "rank them with deephash.ranking, or choose a quantiser of Hamming distance, such as quantizer=sbq."
        )
    if bits is None:
        bits = 8 * codes.shape[1] if hasher is None else hasher.bits
    elif hasher is not None and bits != hasher.bits:
        raise InvalidInputError(f"bits={bits}, but codes of the hasher have {hasher.bits}; leave bits out.")
    names = None if names is None else as_names(names, "names", len(codes))
    if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
        raise InvalidInputError(f"recall={recall!r}; expected a number above 0 and at most 1.")
    if kind != AUTO and recall != 1:
        raise InvalidInputError(f"recall={recall} is for kind='auto'; raise a setting of kind={kind}, or leave it out.")
    if kind == AUTO:
        columns = None if columns is None else as_columns(columns, len(codes))
        built = build_faster(codes, bits, recall, seed, **settings)
        built.items.columns = columns
    else:
        built = build_index(kind, codes, bits, settings, names, columns)
    built.hasher = None if hasher is None else hasher.identity
    built.items.set_names(names)
    return built


def build_index(
    kind: str,
    codes: Tensor,
    bits: int,
    settings: dict[str, Any],
    names: NDArray[Any] | None = None,
    columns: Any = None,
) -> Index:
    """Build an index of one kind; arguments as for `index`, converted.

    Raises:
        InvalidInputError: an unknown kind or setting, or columns that are not a table.
    """
    check_choice(kind, [*index_kinds(), AUTO], "kind")
    chosen = index_class(kind)
    # Include arguments that are not saved, such as the engine of a scan.
    allowed = sorted(set(inspect.signature(chosen).parameters) - Index.not_settings)
    for name in settings:
        if name not in allowed:
            raise InvalidInputError(
                f"kind={kind} has no setting {name}; it has {', '.join(allowed) if allowed else 'none'}."
            )
    if not chosen.keeps_columns:
        beside = None if columns is None else as_columns(columns, len(codes))
        built = chosen(codes, bits, **settings)
        built.items.columns = beside
        return built
    stored = collect_columns(names, columns, len(codes))
    built = chosen(codes, bits, **{**settings, "columns": stored})
    built.extra_columns = () if stored is None else tuple(name for name in stored.columns if name != NAME)
    return built


def build_faster(codes: Tensor, bits: int, recall: float = 1.0, seed: int = 0, **settings: Any) -> Index:
    """Build the kind that answers some of the database's own codes in the least time, and reaches a recall.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        recall: share of neighbours to find; 1 tries the scan and multi-index hashing alone.
        seed: seed of sampled codes, for a recall below 1.
        settings: settings of multi-index hashing.
    """
    from deephash.indexes.choose_index import NEIGHBOURS, Choice, Chooser, Trial
    from deephash.indexes.flat import Flat

    exact: list[Index] = [Flat(codes, bits)]
    seconds = [0.0]
    if len(codes) >= MIN_CODES_FOR_TABLES:
        began = time.perf_counter()
        exact.append(build_index("mih", codes, bits, settings))
        seconds.append(time.perf_counter() - began)
    if recall < 1 and len(codes) > NEIGHBOURS:
        chooser = Chooser(codes, bits, recall, seed)
        best = chooser.choose(exact, seconds)
        best.choice = Choice(recall, tuple(chooser.trials))
        return best
    queries = codes[torch.linspace(0, len(codes) - 1, TRIED_QUERIES).long()]
    # A scan of few codes is chosen without a measurement.
    times = [measure_seconds(tried, queries) for tried in exact] if len(exact) > 1 else [float("nan")]
    fastest = times.index(min(times))
    trials = [
        Trial(
            tried.kind,
            {},
            len(codes),
            1.0,
            1e3 * took / len(queries),
            built,
            "chosen, exact" if place == fastest else "exact",
        )
        for place, (tried, took, built) in enumerate(zip(exact, times, seconds, strict=True))
    ]
    exact[fastest].choice = Choice(1.0, tuple(trials))
    return exact[fastest]


def measure_seconds(tried: Index, queries: Tensor) -> float:
    """Measure the shortest time of some searches in seconds, after a first one that compiles kernels."""
    tried.search(queries, TRIED_NEIGHBOURS)
    times = []
    for _ in range(PASSES):
        started = time.perf_counter()
        tried.search(queries, TRIED_NEIGHBOURS)
        times.append(time.perf_counter() - started)
    return min(times)
