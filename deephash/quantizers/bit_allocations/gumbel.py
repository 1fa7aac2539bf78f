"""Bits by gradient: a Gumbel-softmax over the bits of each projection, trained on a measure of the whole code."""

from typing import final

import torch
from torch import Tensor

from deephash.functional.annealing import geometric
from deephash.functional.soft_histogram import soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.quantizers.bit_allocations.base import BitAllocation, BitOptions
from deephash.quantizers.bit_allocations.knapsack import Knapsack, allocate_bits
from deephash.validation import check_count, check_positive

# Maximum number of pairs of each kind, neighbours and others, on which codes are judged.
PAIRS = 16_384
# Allocations drawn in each step, and bins of the histograms of distances under each.
DRAWS, BINS = 8, 64
# First and last temperature of the draws, and the learning rate of Adam.
TEMPERATURES = 1.0, 0.2
RATE = 0.1


def sample_pairs(neighbours: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw pairs of neighbours and other pairs, up to a count of each kind.

    Args:
        neighbours: bool (m, m), symmetric; the diagonal is not read.
        count: maximum number of pairs of a kind.
        generator: generator of the draw.

    Returns:
        Items int64 (p, 2); whether they are neighbours, bool (p,); and number of pairs that each represents, float32
        (p,).
    """
    drawn, kinds, weights = [], [], []
    for kind in (True, False):
        pairs = (neighbours == kind).triu(1).nonzero()
        kept = pairs[torch.randperm(len(pairs), generator=generator)[:count]]
        drawn.append(kept)
        kinds.append(torch.full((len(kept),), kind))
        weights.append(torch.full((len(kept),), len(pairs) / max(1, len(kept))))
    return torch.cat(drawn), torch.cat(kinds), torch.cat(weights)


def code_distances(added: Tensor, bits: Tensor) -> Tensor:
    """Compute the distances of pairs under one choice of bits.

    Args:
        added: floating (p, k, Q + 1), the distance that each choice for each projection adds.
        bits: int64 (k,).

    Returns:
        int64 (p,).
    """
    return added[:, torch.arange(len(bits)), bits].sum(1).long()


@final
class Gumbel(BitAllocation):
    """Allocation of the best whole code: draws by Gumbel-softmax maximise the average precision of pairs.

    `Knapsack` adds up the values of projections one by one. Here whole codes are judged by the order in which their
    distances rank pairs of training items. The measure is the average precision of neighbours among all pairs, which is
    the area under the micro-averaged precision-recall curve. A projection that repeats another then adds little. Each
    projection has a log-probability for every number of bits. Each step draws allocations by these probabilities,
    relaxed by the Gumbel-softmax at a temperature that falls from 1 to 0.2. A gradient step on the log-probabilities
    then raises the average precision, computed from soft histograms of distances, less a penalty: the square of
    (bits spent - budget) / budget. The start favours the allocation of `Knapsack`. At the end a knapsack over the
    learnt log-probabilities spends exactly the budget. If the resulting code is no better on the pairs, the
    allocation of `Knapsack` is kept.

    Known weakness: it learns from training pairs, so its choice between similar random projections is partly chance.
    The thresholds remain those that are best for each projection alone.

    Args:
        steps: steps of Adam.
        penalty: weight of the penalty on the budget.

    Raises:
        InvalidInputError: steps is below 1, or penalty is not above 0.

    References:
        Moran, Lavrenko & Osborne, "Variable bit quantisation for LSH", ACL 2013, whose allocation this replaces. Jang,
        Gu & Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017.
    """

    def __init__(self, steps: int = 150, penalty: float = 1.0) -> None:
        super().__init__()
        check_count(steps, "steps")
        check_positive(penalty, "penalty")
        self.steps = steps
        self.penalty = penalty

    def allocate(self, options: BitOptions, budget: int, generator: torch.Generator) -> Tensor:
        """Choose the number of bits of each projection: as learnt, or as `Knapsack` if its code is at least as good."""
        start = Knapsack().allocate(options, budget, generator)
        pairs, kinds, weights = sample_pairs(options.neighbours, PAIRS, generator)
        added = (options.regions[pairs[:, 0]] - options.regions[pairs[:, 1]]).abs().float()
        logits = self._climb(added, kinds, weights, start, budget, generator)
        learnt = torch.from_numpy(allocate_bits(logits.log_softmax(1).double().numpy(), budget))

        def precision(bits: Tensor) -> float:
            distances, counted = code_distances(added, bits), weights.double()
            total, relevant = torch.bincount(distances, counted), torch.bincount(distances, counted * kinds)
            return float(tie_aware_average_precision(total[None], relevant[None]))

        return learnt if precision(learnt) > precision(start) else start

    @torch.enable_grad()
    def _climb(
        self, added: Tensor, kinds: Tensor, weights: Tensor, start: Tensor, budget: int, generator: torch.Generator
    ) -> Tensor:
        """Learn the logits of the choices, (k, Q + 1), by gradient."""
        k, choices = added.shape[1:]
        numbers = torch.arange(choices, dtype=added.dtype)
        counted = weights.expand(DRAWS, -1)
        added = added.flatten(1)
        logits = torch.nn.functional.one_hot(start, choices).to(added.dtype).requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=RATE)
        for step in range(self.steps):
            progress = step / max(1, self.steps - 1)
            temperature = geometric(*TEMPERATURES, progress)
            uniform = torch.rand(DRAWS, k, choices, generator=generator).clamp_min(torch.finfo(added.dtype).tiny)
            chosen = ((logits - (-uniform.log()).log()) / temperature).softmax(-1)
            distances = chosen.flatten(1) @ added.T
            largest = max(float(distances.detach().max()), 1.0)
            total = soft_histogram(distances, counted, largest, BINS)
            relevant = soft_histogram(distances, counted * kinds, largest, BINS)
            excess = (chosen @ numbers).sum(1) / budget - 1
            optimizer.zero_grad()
            loss = (self.penalty * excess.square() - tie_aware_average_precision(total, relevant)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return logits.detach()
