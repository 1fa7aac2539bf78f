"""Rank-biased overlap of two orders (Webber, Moffat & Zobel, TOIS 2010)."""

from collections.abc import Hashable, Sequence

from deephash.metrics.rank_biased_precision import check_persistence
from deephash.validation import InvalidInputError


def rank_biased_overlap(one: Sequence[Hashable], other: Sequence[Hashable], persistence: float = 0.9) -> float:
    """How alike the tops of two orders of the same things are, extrapolated: RBO_ext, Equation 23.

    (1 - p) Σ_d p^(d-1) A_d with A_d the share that the first d have in common; beyond the end A stays as it is there.

    Args:
        one: best first, without ties.
        other: the same things in another order.
        persistence: p; .9 puts 86 % of the weight on the first ten.

    Returns:
        0 to 1.

    Raises:
        InvalidInputError: other things, one twice, or no things.
    """
    check_persistence(persistence)
    if not one or len(set(one)) != len(one) or sorted(map(repr, one)) != sorted(map(repr, other)):
        raise InvalidInputError("the orders are not of the same things, each once; give both all of them.")
    seen_one: set[Hashable] = set()
    seen_other: set[Hashable] = set()
    overlap, total = 0.0, 0.0
    for depth, (a, b) in enumerate(zip(one, other, strict=True), start=1):
        seen_one.add(a)
        seen_other.add(b)
        overlap = len(seen_one & seen_other) / depth
        total += persistence ** (depth - 1) * overlap
    return (1 - persistence) * total + persistence ** len(one) * overlap
