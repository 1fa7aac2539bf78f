"""UCCH: unsupervised contrastive cross-modal hashing (Hu, Zhu, Lin, Peng, Zhao & Peng, TPAMI 2023)."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from deephash.functional.surrogate_gradient import signs
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_count, check_fraction, check_positive

# Shorter codes are not scaled to unit length, because their gradients would be very large.
SHORTEST = 1e-3


def contrast_with_memory(codes: Tensor, memory: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding an item's bits among the bits in memory, by softmax(cos / τ).

    Args:
        codes: floating (n, l), of unit length.
        memory: bits ±1 (m, l).
        own: bool (n, m), with one True per row: the item's own bits.
        temperature: τ.

    Returns:
        A scalar, the mean over items.
    """
    logits = codes @ memory.T / (memory.shape[1] ** 0.5 * temperature)
    log_shares = logits.log_softmax(1)
    loss: Tensor = -log_shares[own].mean()
    return loss


def ranking_cost(similarities: Tensor, margin: float, shift: float) -> Tensor:
    """Cross-modal ranking loss: the mean over rows of log Σ_j exp(s'_ij) - s_ii + m.

    Here s' equals s for items that are not nearer than the own pair by the margin m, which are ranked wrongly, and
    s minus the shift for the others. So all items that are not the pair count, and hard ones count more.

    Args:
        similarities: s, floating (n, n), of row i with column j; the pair of row i is column i.
        margin: m.
        shift: amount by which the similarity of the others is lowered.

    Returns:
        A scalar.
    """
    own = similarities.diagonal()
    hard = similarities.detach() >= own.detach()[:, None] - margin
    lowered = torch.where(hard, similarities, similarities - shift)
    return (lowered.logsumexp(1) - own + margin).mean()


@final
class UCCH(Loss):
    """Unsupervised contrastive cross-modal hashing: finds the bits of a pair in a memory, and ranks its partner first.

    The memory holds one code per training item: a moving mean of the codes of its two views. In the first term, each of
    the two codes of an item is compared with the bits of the memory, without a relaxation of these bits. The second
    term compares the codes of a batch across views, and uses all items, so that single items that are wrongly taken as
    different do not dominate. No labels are needed.
    Known weakness: items of one class repel each other like items of different classes. The memory needs l numbers per
    training item. Items that lack a view do not count.

    Shape:
        codes (n, l) of both views, positions (n,), views (n,), rows (n,) → scalar, at least 0; 0 if no item has both
        views. Each call updates the memory.

    Args:
        code_length: code length l.
        items: number of training items; positions of batches are below it.
        generator: CPU generator of the seed by which items of the memory are drawn.
        alpha: weight of the first term, with 1 - alpha for the second; 0.7 as in the authors' command for
            MIRFlickr-25k.
        temperature: τ of the first term; 0.9 as in the authors' code.
        momentum: share of the old code in a memory update; 0.4 as in the authors' code.
        negatives: number of items of the memory that a batch is compared with; 4,096 as in the authors' code. If the
            memory is larger, they are drawn for each batch; the paper draws them for each item.
        margin: m of the second term; 0.2 as in the authors' code.
        shift: shift of the second term; 0.1 as in the authors' command for MIRFlickr-25k.

    Raises:
        InvalidInputError: a setting is out of range.

    References:
        Hu, Zhu, Lin, Peng, Zhao & Peng, "Unsupervised contrastive cross-modal hashing", TPAMI 45(3), 2023. In the
        authors' code, the first epoch compares the items of a batch with each other; here an item enters the memory
        with its first code, and a batch is compared with all items that have entered.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"two_views"})

    memory: Tensor
    entered: Tensor
    draws: Tensor

    def __init__(
        self,
        code_length: int,
        items: int,
        generator: torch.Generator | None = None,
        alpha: float = 0.7,
        temperature: float = 0.9,
        momentum: float = 0.4,
        negatives: int = 4096,
        margin: float = 0.2,
        shift: float = 0.1,
    ) -> None:
        super().__init__()
        check_fraction(alpha, "alpha")
        check_positive(temperature, "temperature")
        check_fraction(momentum, "momentum")
        check_count(negatives, "negatives")
        check_weight(margin, "margin")
        check_weight(shift, "shift")
        self.alpha, self.temperature, self.momentum = alpha, temperature, momentum
        self.negatives, self.margin, self.shift = negatives, margin, shift
        generator = generator or torch.Generator().manual_seed(0)
        self.register_buffer("memory", torch.zeros(items, code_length))
        self.register_buffer("entered", torch.zeros(items, dtype=torch.bool))
        self.register_buffer("draws", torch.randint(2**62, (), generator=generator))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Contrast with the memory, and ranking across views, of the items with both views."""
        first, second, positions = batch.complete_codes()
        if not len(positions):
            return 0 * batch.codes.sum()
        first, second = (functional.normalize(codes, eps=SHORTEST) for codes in (first, second))
        means = functional.normalize((first + second).detach() / 2, eps=SHORTEST).to(self.memory)
        new = ~self.entered[positions]
        self.memory[positions[new]] = means[new]
        self.entered[positions] = True
        compared = self._choose_compared(positions)
        own = positions[:, None] == compared
        bits = signs(self.memory[compared]).to(first)
        contrasts = [contrast_with_memory(codes, bits, own, self.temperature) for codes in (first, second)]
        mixed = self.momentum * self.memory[positions] + (1 - self.momentum) * means
        self.memory[positions] = functional.normalize(mixed, eps=SHORTEST)
        similarities = first @ second.T
        rankings = [ranking_cost(each, self.margin, self.shift) for each in (similarities, similarities.T)]
        return self.alpha * torch.stack(contrasts).sum() + (1 - self.alpha) * torch.stack(rankings).sum()

    def _choose_compared(self, positions: Tensor) -> Tensor:
        """Return the positions of the items that a batch is compared with, its own among them, without repetition."""
        entered = self.entered.nonzero()[:, 0]
        if len(entered) <= self.negatives:
            return entered
        # The seed counts batches, so that all processes draw the same items.
        generator = torch.Generator().manual_seed(int(self.draws))
        self.draws += 1
        chosen = torch.randperm(len(entered), generator=generator)[: self.negatives].to(entered.device)
        compared: Tensor = torch.cat([positions, entered[chosen]]).unique()  # type: ignore[no-untyped-call]
        return compared
