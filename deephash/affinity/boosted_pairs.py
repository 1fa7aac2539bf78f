"""Pairs of one item's first view and another's second view, drawn from an affinity and reweighted per bit."""

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.validation import InvalidInputError

# Entries of the affinity per block, 64 MiB as int32.
BLOCK_ENTRIES = 2**24
# Limit of the agreement, since full agreement would give weights of 0 or infinity.
MAX_AGREEMENT = 1 - 1e-9


def sample_pairs(affinity: TrainingAffinity, count: int, similar: bool, generator: torch.Generator) -> Tensor:
    """Draw random items, and for each a random partner among its neighbours, or among the other items.

    Items are drawn uniformly with replacement, so that each class has pairs in proportion to its items. Items
    without a partner are skipped.

    Args:
        affinity: affinity among the n items.
        count: number of items drawn.
        similar: True to draw partners among neighbours, possibly the item itself; False among the other items.
        generator: CPU generator.

    Returns:
        int64 (p, 2), p <= count, on the CPU.

    Raises:
        InvalidInputError: no item has a partner.
    """
    rows = torch.randint(len(affinity), (count,), generator=generator)
    places = torch.rand(count, generator=generator, dtype=torch.float64)
    partners = torch.full((count,), -1)
    block = max(1, BLOCK_ENTRIES // len(affinity))
    for start in range(0, count, block):
        part = slice(start, start + block)
        neighbours = affinity.among(rows[part]).cpu()
        running = (neighbours if similar else ~neighbours).cumsum(1, dtype=torch.int32)
        ranks = (places[part] * running[:, -1]).floor().int() + 1
        columns = torch.searchsorted(running, ranks[:, None])[:, 0]
        partners[part] = torch.where(running[:, -1] > 0, columns, -1)
    pairs = torch.stack([rows, partners], 1)[partners >= 0]
    if not len(pairs):
        reason = "no training item has a neighbour" if similar else "all training items are neighbours"
        raise InvalidInputError(f"{reason}; give supervision with similar and dissimilar pairs.")
    return pairs


def draw_signed_pairs(affinity: TrainingAffinity, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw similar and dissimilar pairs, in equal numbers if every item has both kinds of partner.

    Args:
        affinity: affinity among the n items.
        count: number of items drawn for each sign.
        generator: CPU generator.

    Returns:
        Pairs int64 (p, 2) and signs float64 (p,), 1 for similar and -1 for dissimilar pairs.
    """
    kinds = [sample_pairs(affinity, count, similar, generator) for similar in (True, False)]
    signs = [torch.full((len(pairs),), sign, dtype=torch.float64) for pairs, sign in zip(kinds, (1, -1), strict=True)]
    return torch.cat(kinds), torch.cat(signs)


def boost_weights(weights: Tensor, outcomes: Tensor, step: float | None = None) -> tuple[Tensor, float]:
    """Update the pair weights for the next bit: raise them for wrong pairs, lower them for right pairs.

    With AdaBoost's step, α = ½ log((1 + r) / (1 - r)), right pairs have half of the total new weight, so that the next
    bit must differ.

    Args:
        weights: float64 (p,), summing to 1.
        outcomes: ±1 (p,), 1 where the bit is right.
        step: α; None for that of AdaBoost.

    Returns:
        The new weights, summing to 1, and the agreement r = Σ weights outcomes under the old weights.

    References:
        Freund & Schapire, "A decision-theoretic generalization of on-line learning and an application to boosting",
        1997.
    """
    agreement = weights @ outcomes
    bounded = agreement.clamp(-MAX_AGREEMENT, MAX_AGREEMENT)
    new = weights * torch.exp(-(bounded.atanh() if step is None else step) * outcomes)
    return new / new.sum(), float(agreement)
