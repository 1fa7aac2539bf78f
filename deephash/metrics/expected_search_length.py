"""What a user pays before the n-th relevant item, tie-aware (Cooper, American Documentation 1968)."""

import torch
from torch import Tensor

from deephash.metrics.query_blocks import in_query_blocks
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError, check_count


@in_query_blocks
def expected_search_length(counts: DistanceCounts, wanted: int = 1) -> Tensor:
    """Irrelevant items that are expected before the n-th relevant one.

    The groups of tied items before it add theirs, j; in its own group, of i irrelevant and r relevant items, of which
    s are still wanted, i·s/(r + 1) come first on average over the orders (Cooper 1968).

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        wanted: n, at least 1.

    Returns:
        float64 (q,); NaN where a query has fewer than n relevant items.

    Raises:
        InvalidInputError: n below 1.
    """
    check_count(wanted, "wanted")
    relevant, others = counts.relevant.double(), (counts.total - counts.relevant).double()
    found = relevant.cumsum(1)
    group = (found < wanted).sum(1, keepdim=True).clamp_max(found.shape[1] - 1)
    own, own_others = relevant.gather(1, group), others.gather(1, group)
    still = wanted - (found.gather(1, group) - own)
    passed = others.cumsum(1).gather(1, group) - own_others
    values = (passed + own_others * still / (own + 1))[:, 0]
    return values.masked_fill(found[:, -1] < wanted, torch.nan)


def scanning_seconds(counts: DistanceCounts, wanted: int = 1, glance: float = 1.0, reading: float = 5.0) -> Tensor:
    """Expected seconds until a user who scans from the top has read the n-th relevant item.

    Each irrelevant item costs a glance, each relevant one a glance and its reading: time-biased gain's simplest user
    (Smucker & Clarke, SIGIR 2012), who misses nothing.

    Args:
        counts: items and relevant items at each distance, (q, D + 1).
        wanted: n, at least 1.
        glance: seconds an item; 1 is of the order of looking at one picture of a page of them.
        reading: seconds more for a relevant item.

    Returns:
        float64 (q,); NaN where a query has fewer than n relevant items.

    Raises:
        InvalidInputError: n below 1, or seconds below 0.
    """
    if glance < 0 or reading < 0:
        raise InvalidInputError(f"glance={glance} and reading={reading} seconds; expected at least 0.")
    return glance * (expected_search_length(counts, wanted) + wanted) + reading * wanted
