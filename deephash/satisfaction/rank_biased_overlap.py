"""Rank-biased overlap of two orders (Webber, Moffat & Zobel, TOIS 2010)."""

from collections.abc import Hashable, Sequence

from deephash.metrics.rank_biased_precision import check_persistence
from deephash.validation import InvalidInputError


def rank_biased_overlap(first: Sequence[Hashable], second: Sequence[Hashable], persistence: float = 0.9) -> float:
    """Return the top-weighted similarity of two orders of the same items, extrapolated: RBO_ext, Equation 23.

    (1 - p) Σ_d p^(d-1) A_d, where A_d is the share of their first d items that both orders contain, constant beyond the
    end.

    Args:
        first: items, best first, without ties.
        second: the same items in another order.
        persistence: p; at .9, the first ten items have 86 % of the weight.

    Returns:
        A value from 0 to 1.

    Raises:
        InvalidInputError: the orders have different, repeated or no items.
    """
    check_persistence(persistence)
    if not first or len(set(first)) != len(first) or sorted(map(repr, first)) != sorted(map(repr, second)):
        raise InvalidInputError("the orders do not contain the same items once each; give all items to both.")
    seen_first: set[Hashable] = set()
    seen_second: set[Hashable] = set()
    overlap, total = 0.0, 0.0
    for depth, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        seen_first.add(a)
        seen_second.add(b)
        overlap = len(seen_first & seen_second) / depth
        total += persistence ** (depth - 1) * overlap
    return (1 - persistence) * total + persistence ** len(first) * overlap
