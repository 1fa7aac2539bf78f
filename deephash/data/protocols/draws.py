"""Drawing of disjoint parts, shared by all protocols: sizes, strata and random order.

Items are dealt from one queue per class. The order of a queue depends only on the seed, so with the same seed the parts
dealt first do not depend on the sizes of later parts.
"""

import re
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from deephash.validation import InvalidInputError, as_labels, is_whole

Size = int | float | str
"""A part's size: a whole number, a fraction of the items in (0, 1), "100 per class", or "rest"."""

REST = "rest"
PER_CLASS = re.compile(r"([1-9][0-9]*) per class")


def check_size(size: Size, part: str, also: tuple[str, ...] = ()) -> None:
    """Raise an error for a value that is not a size.

    Args:
        size: the value.
        part: name of the parameter, for the message.
        also: further words that this parameter accepts.

    Raises:
        InvalidInputError: the message has the value and the accepted values.
    """
    if isinstance(size, str):
        if size in (REST, *also) or PER_CLASS.fullmatch(size):
            return
    elif not isinstance(size, bool) and isinstance(size, int | float):
        if isinstance(size, int) and size >= 1:
            return
        if isinstance(size, float) and 0 < size < 1:
            return
    words = ", ".join(repr(word) for word in ("100 per class", REST, *also))
    raise InvalidInputError(
        f"protocol.{part}={size!r}; expected a whole number of at least 1, a fraction between 0 and 1, or one of "
        f"{words}: for example protocol.{part}=500."
    )


def random_order(n: int, seed: int) -> np.ndarray:
    """Return a random order of n items that is the same on every platform and NumPy release.

    Items are sorted by the raw 64-bit words of PCG64. NumPy keeps this stream fixed, but not the draws of `Generator`.

    Args:
        n: number of items.
        seed: whole number of at least 0.

    Returns:
        int64 (n,), a permutation of 0 … n − 1.

    Raises:
        InvalidInputError: a seed that is not a whole number of at least 0.
    """
    if not is_whole(seed) or seed < 0:
        raise InvalidInputError(f"seed={seed!r}; expected a whole number of at least 0, such as seed=0.")
    words: np.ndarray = np.random.PCG64(int(seed)).random_raw(n)
    return np.argsort(words, kind="stable")


def find_strata(n: int, labels: Tensor | None, stratified: bool) -> np.ndarray:
    """Return the stratum of each item: its class if items have one label each, else 0.

    Args:
        n: number of items.
        labels: class indices int64 (n,), indicator bool (n, c) or None.
        stratified: False puts all items into stratum 0.

    Returns:
        int64 (n,).

    Raises:
        InvalidInputError: invalid labels, or a number of labels other than n.
    """
    if labels is not None:
        labels = as_labels(labels, n)
    if labels is None or labels.ndim != 1 or not stratified:
        return np.zeros(n, np.int64)
    classes: np.ndarray = labels.cpu().numpy()
    return classes


def proportional_quotas(size: int, available: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Divide `size` between the classes in proportion to their items, rounded by largest remainders.

    Args:
        size: number of items to divide, at most the sum of `available`.
        available: int64 (c,), remaining items of each class.
        priority: int64 (c,), rank that decides between equal remainders, lowest first.

    Returns:
        int64 (c,) with the sum `size`, each within 1 of its exact share and at most `available`.
    """
    total = int(available.sum())
    quotas = size * available // total
    remainders = size * available - quotas * total
    missing = size - int(quotas.sum())
    quotas[np.lexsort((priority, -remainders))[:missing]] += 1
    return quotas


def deal(
    sizes: Mapping[str, Size], strata: np.ndarray, seed: int, pool: np.ndarray | None = None, source: str = "the data"
) -> dict[str, np.ndarray]:
    """Deal items into disjoint parts, each in proportion to the remaining items of every class.

    Parts are dealt in the given order, with the part of size "rest" last. Remaining items are unused.

    Args:
        sizes: size of each part by parameter name; fractions are of the pool.
        strata: int64 (n,), from `find_strata`.
        seed: equal seeds give equal parts.
        pool: int64, rows to deal from; None for all n.
        source: name of the pool in messages.

    Returns:
        Rows of each part, int64, ascending.

    Raises:
        InvalidInputError: sizes that exceed the pool, two parts of size "rest", or a part without items of a class.
    """
    order = random_order(len(strata), seed)
    if pool is not None:
        order = order[np.isin(order, pool)]
    n = len(order)
    if n == 0:
        raise InvalidInputError(f"There are no items in {source} to split; give data with items.")
    rests = [part for part, size in sizes.items() if size == REST]
    if len(rests) > 1:
        raise InvalidInputError(
            f"protocol.{rests[0]} and protocol.{rests[1]} are both rest; give one a size, such as "
            f"protocol.{rests[0]}=2000."
        )
    classes, first_seen, inverse, available = np.unique(
        strata[order], return_index=True, return_inverse=True, return_counts=True
    )
    single = bool(len(classes) == 1 and classes[0] == 0)
    counts = _count_items(sizes, n, len(classes), single, source)

    by_class = np.argsort(inverse, kind="stable")
    starts = np.cumsum(available) - available
    place = np.empty(n, np.int64)  # position of each item in the queue of its class
    place[by_class] = np.arange(n) - np.repeat(starts, available)
    priority = np.argsort(np.argsort(first_seen))  # random, so that no class is favoured on average

    dealt = np.zeros_like(available)
    rows: dict[str, np.ndarray] = {}
    for part in sorted(sizes, key=lambda part: part in rests):
        left = available - dealt
        quotas = _compute_quotas(sizes[part], counts.get(part), left, classes, priority, part)
        empty = np.flatnonzero(quotas == 0)
        if len(empty):
            _raise_missing_class(part, sizes[part], classes, available, int(empty[0]), int(quotas.sum()), source)
        chosen = (place >= dealt[inverse]) & (place < (dealt + quotas)[inverse])
        rows[part] = np.sort(order[chosen])
        dealt = dealt + quotas
    return {part: rows[part] for part in sizes}


def _count_items(sizes: Mapping[str, Size], n: int, classes: int, single: bool, source: str) -> dict[str, int]:
    """Return the number of items of each part but the rest; raise an error for sizes beyond the pool."""
    counts: dict[str, int] = {}
    for part, size in sizes.items():
        check_size(size, part)
        if size == REST:
            continue
        if isinstance(size, str):
            if single:
                raise InvalidInputError(
                    f"protocol.{part}={size!r} needs stratified data with one class label per item and at least two "
                    f"classes; give a number of items, such as protocol.{part}=1000."
                )
            counts[part] = int(size.split()[0]) * classes
        elif isinstance(size, float):
            counts[part] = int(n * size + 0.5)
        else:
            counts[part] = size
        if counts[part] == 0:
            raise InvalidInputError(
                f"protocol.{part}={size} of the {n} items in {source} is less than 1 item; raise it, for "
                f"example to protocol.{part}=1."
            )
    rest = next((part for part in sizes if part not in counts), None)
    total = sum(counts.values())
    if total > n or (rest is not None and total == n):
        listed = " + ".join(f"{part} {count}" for part, count in counts.items())
        largest = max(counts, key=lambda part: counts[part]) if counts else rest
        leaving = "" if rest is None else f", which must leave at least 1 for {rest}"
        suggestion = max(1, counts.get(str(largest), 0) - (total - n) - (rest is not None))
        raise InvalidInputError(
            f"The protocol needs {listed} = {total} items of the {n} in {source}{leaving}; lower a size, such as "
            f"protocol.{largest}={suggestion}, give fractions, such as protocol.{largest}=0.1, or choose another "
            "protocol, such as five_way_small."
        )
    return counts


def _compute_quotas(
    size: Size, count: int | None, left: np.ndarray, classes: np.ndarray, priority: np.ndarray, part: str
) -> np.ndarray:
    """Return the number of items of each class in a part."""
    if count is None:
        return left
    if not isinstance(size, str):
        return proportional_quotas(count, left, priority)
    each = int(size.split()[0])
    short = np.flatnonzero(left < each)
    if len(short):
        raise InvalidInputError(
            f"protocol.{part}={size!r}, but class {classes[short[0]]} has {left[short[0]]} items left; lower it, for "
            f"example to protocol.{part}='{max(1, int(left.min()))} per class'."
        )
    return np.full_like(left, each)


def _raise_missing_class(
    part: str, size: Size, classes: np.ndarray, available: np.ndarray, missing: int, count: int, source: str
) -> None:
    if count < len(classes):
        raise InvalidInputError(
            f"protocol.{part}={size} is {count} items, fewer than 1 for each of {len(classes)} classes; set "
            f"protocol.{part}={len(classes)} or more, or draw without strata: protocol.stratified=false."
        )
    raise InvalidInputError(
        f"class {classes[missing]} has {available[missing]} of the {available.sum()} items in {source}, too few for "
        f"one in protocol.{part}={size}; raise that size, remove or merge the class, or draw without strata: "
        "protocol.stratified=false."
    )
