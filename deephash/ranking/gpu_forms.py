"""The forms of counting distances on a GPU, and the choice among them by code length and table size.

- `scalar`: a program counts one query against tiles of items. Any distance, and the only form for very large tables of
  distances.
- `tiled`: a program counts several queries against each tile of items, which it reads once.
- `tensor`: as `tiled`, with Hamming distances from products of signs on tensor cores.
- `planes`: Hamming distances of 32 items at a time from words that hold one bit of each.
"""

from typing import Literal, get_args

from deephash.ranking.gpu_lists import Lists
from deephash.validation import InvalidInputError

Form = Literal["scalar", "tiled", "tensor", "planes"]
FORMS: tuple[Form, ...] = get_args(Form)

# These limits follow from the numbers of instructions of the compiled kernels, and have not been measured on a GPU.
# A program's cells of tiles of queries × distances: more would leave its threads no registers.
MAX_CELLS = 4096
TENSOR_ROWS, MAX_TENSOR_CELLS = 16, 2**14
# Counters of longer codes would not fit in registers.
MAX_PLANES_BITS = 64
# Pairs from which the layout and the longer compilation of planes are worthwhile, and queries that share a layout.
MIN_PLANES_PAIRS, MIN_PLANES_QUERIES = 2**31, 32
# Items per label from which blocks of one label are nearly full.
MIN_LABEL_ITEMS = 4096
# A program for each query searches a small table in one launch; fewer programs would leave the GPU idle.
MAX_FUSED_ITEMS, MIN_FUSED_QUERIES = 2**18, 64
# Products take less time than counts of ones from this code length.
MIN_TENSOR_BITS = 192


def tile_rows(bins: int, tables: int) -> int:
    """Return the number of queries of a tile, a power of two up to 16, for tables of `bins` distances."""
    return max(1, min(16, MAX_CELLS // (bins * tables)))


def list_forms(*, hamming: bool, bits: int, bins: int, tables: int, shared_bins: int) -> tuple[Form, ...]:
    """Return the forms that can count; all return the same counts.

    Args:
        hamming: whether the distance is Hamming's.
        bits: code length.
        bins: columns of a table of distances, a power of two.
        tables: 1 to count all items, 2 to count relevant items, too.
        shared_bins: columns that fit in shared memory.
    """
    forms: list[Form] = ["scalar"]
    if bins * tables <= min(MAX_CELLS, shared_bins):
        forms.append("tiled")
    if hamming and TENSOR_ROWS * bins * tables <= MAX_TENSOR_CELLS:
        forms.append("tensor")
    if hamming and bits <= MAX_PLANES_BITS:
        forms.append("planes")
    return tuple(forms)


def choose_form(
    possible: tuple[Form, ...], *, bits: int, queries: int, items: int, labels: int | None, forced: Form | None = None
) -> Form:
    """Return the form for a ranking.

    Args:
        possible: see `list_forms`.
        bits: code length.
        queries: number of queries.
        items: number of items.
        labels: number of different labels of the items; 0 if relevance is not computed here; None if an item has
            several labels.
        forced: the user's choice.

    Raises:
        InvalidInputError: the forced form cannot count this ranking.
    """
    planes_fit = "planes" in possible and labels is not None
    if forced is not None:
        if forced not in possible or (forced == "planes" and not planes_fit):
            able = ", ".join(form for form in possible if form != "planes" or planes_fit)
            raise InvalidInputError(f"form={forced!r} cannot count this ranking; choose among {able}, or leave it out.")
        return forced
    is_large = queries >= MIN_PLANES_QUERIES and queries * items >= MIN_PLANES_PAIRS
    if planes_fit and is_large and (labels or 0) * MIN_LABEL_ITEMS <= items:
        return "planes"
    if "tensor" in possible and bits >= MIN_TENSOR_BITS and queries >= TENSOR_ROWS:
        return "tensor"
    return "tiled" if "tiled" in possible and queries > 1 else "scalar"


def choose_lists(*, bins: int, queries: int, items: int, shared_bins: int) -> Lists:
    """Return how the limits of a search are found: in one launch for small tables, else from a sample."""
    if queries >= MIN_FUSED_QUERIES and items <= MAX_FUSED_ITEMS and bins <= shared_bins:
        return "fused"
    return "sample"


def choose_planes_lists(*, hamming: bool, queries: int, items: int) -> bool:
    """Return whether a search lays the codes out as bit planes: for enough queries, at any code length."""
    return hamming and queries >= MIN_PLANES_QUERIES and queries * items >= MIN_PLANES_PAIRS
