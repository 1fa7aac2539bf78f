"""FastHash (Lin, Shen, Shi, van den Hengel & Suter, CVPR 2014)."""

from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.block_cuts import minimise_submodular, similar_blocks
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count, check_fraction

# Items whose neighbours are held as a matrix of bool: 1 GB.
MAX_ITEMS = 32_768
MAX_DEPTH = 20
BLOCK_ROWS = 1024
# Items of a block: cuts of so few are quick, and the blocks after it see what they became.
MAX_BLOCK = 100
# Rounds of the block search over all items, for each bit.
SWEEPS = 2
# A soft cut rises over a tenth of its feature's standard deviation.
SOFTNESS = 0.1


def pair_terms(distances: Tensor, neighbours: Tensor, bit: int) -> Tensor:
    """What a bit that agrees costs a pair over one that differs, in whole numbers.

    The loss of Hamming distance D over the bits so far, r with this one, is D² for neighbours and (r - D)² for others,
    a quarter of KSH's. A pair of neighbours therefore has a term below 0, any other one above 0, so that no bit is
    ever indifferent to the labels, as with a hinge it would be once all classes lie r / 2 apart.

    Args:
        distances: D over the bits before, floating (m, n).
        neighbours: bool (m, n).
        bit: r.

    Returns:
        (m, n).
    """
    return torch.where(neighbours, -2 * distances - 1, 2 * (bit - distances) - 1)


def infer_bit(z: Tensor, codes: Tensor, neighbours: Tensor, blocks: list[Tensor], generator: torch.Generator) -> Tensor:
    """Lower Σ a_ij z_i z_j over z in {-1, 1}: each block in turn is set to its minimum given all others.

    Args:
        z: to start from, floating (n,).
        codes: the bits before, in {-1, 1}, (r - 1, n).
        neighbours: bool (n, n).
        blocks: rows that are all neighbours of each other, so that their terms are submodular.
        generator: CPU generator of the order of blocks.

    Returns:
        z (n,).
    """
    z = z.clone()
    before = len(codes)
    for _ in range(SWEEPS):
        start = z.clone()
        for index in torch.randperm(len(blocks), generator=generator).tolist():
            rows = blocks[index]
            distances = (before - codes[:, rows].T @ codes) / 2
            terms = pair_terms(distances, neighbours[rows], before + 1)
            within = terms[:, rows]
            unary = terms.double() @ z.double() - within.double() @ z[rows].double()
            best = minimise_submodular(unary.round().long().numpy(), within.round().long().numpy())
            z[rows] = torch.from_numpy(best).to(z.dtype)
        if torch.equal(start, z):
            break
    return z


def quantile_edges(features: Tensor, levels: int) -> Tensor:
    """Thresholds that cut each feature into levels of equally many rows; of few distinct values, some are alike.

    Args:
        features: floating (n, d).
        levels: number of levels.

    Returns:
        (d, levels - 1), ascending; a value reaches level l where it is at least threshold l - 1.
    """
    ranks = (torch.arange(1, levels) * len(features)) // levels
    return torch.stack([column.sort().values[ranks.to(column.device)] for column in features.T])


@final
class FastHash(Projection):
    """Bits found first, by graph cuts on the pairs' loss, and then learnt by boosted decision trees.

    A bit is found over blocks of items that are all neighbours of each other, for which the loss is submodular and a
    minimum cut gives the best bits. Trees are boosted to predict it, and what they predict, not what was found,
    is what the next bit builds on. Trees are not linear, need no distances, and look at few features of an item.
    The value is that of the trees, a step function; gradients are those of soft cuts, sigmoids of (x - threshold) over
    a tenth of the feature's standard deviation, which reach the features, thresholds and leaf values (straight
    through). Known weakness: all pairs of items count, so that the items must be few; and long ensembles fit their
    training items far better than others.

    Shape:
        features (n, d) → projections (n, k), the ensembles' margins.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        trees: trees of a bit.
        depth: of a tree; 4 as in the paper.
        levels: that a feature is cut to while trees are learnt, 2 to 256; few, as thousands of items can tell apart.
        tried: features drawn at random for a tree to choose from (LazyBoost), at most d.
        kept_weight: share of the weight held by the items that a tree is learnt from (weight trimming).

    Raises:
        InvalidInputError: an argument out of its range; in `fit`, no affinity, or more than 32,768 items.

    References:
        Lin, Shen, Shi, van den Hengel & Suter, "Fast supervised hashing with decision trees for high-dimensional
        data", CVPR 2014; with the loss of KSH.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    nodes: Tensor
    scale: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        trees: int = 200,
        depth: int = 4,
        levels: int = 32,
        tried: int = 32,
        kept_weight: float = 0.99,
    ) -> None:
        super().__init__(input_dim, output_dim)
        for name, value in (("trees", trees), ("depth", depth), ("levels", levels), ("tried", tried)):
            check_count(value, name)
        if not 2 <= levels <= 256:
            raise InvalidInputError(f"levels={levels}; expected 2 to 256, a byte of each feature.")
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"depth={depth}; expected 1 to {MAX_DEPTH}, a million leaves a tree.")
        check_fraction(kept_weight, "kept_weight")
        self.trees = trees
        self.depth = depth
        self.levels = levels
        self.tried = tried
        self.kept_weight = kept_weight
        inner = 2**depth - 1
        self.register_buffer("nodes", torch.zeros(output_dim, trees, inner, dtype=torch.int64))
        self.register_buffer("scale", torch.ones(input_dim))
        self.thresholds = nn.Parameter(torch.zeros(output_dim, trees, inner))
        self.leaves = nn.Parameter(torch.zeros(output_dim, trees, inner + 1))

    def forward(self, features: Tensor) -> Tensor:
        """Sums of leaf values, one bit's trees at a time; gradients are those of soft cuts."""
        features = features.to(self.thresholds.dtype)
        return torch.stack([self._margins(features, bit) for bit in range(self.output_dim)], 1)

    def _margins(self, features: Tensor, bit: int) -> Tensor:
        nodes, thresholds, leaves = self.nodes[bit], self.thresholds[bit], self.leaves[bit]
        with torch.no_grad():
            offsets = torch.arange(self.trees, device=features.device) * nodes.shape[1]
            at = torch.zeros(features.shape[0], self.trees, dtype=torch.int64, device=features.device)
            for _ in range(self.depth):
                place = at + offsets
                right = features.gather(1, nodes.flatten()[place]) >= thresholds.flatten()[place]
                at = 2 * at + 1 + right
            leaf = at - nodes.shape[1] + offsets + torch.arange(self.trees, device=features.device)
            hard = leaves.flatten()[leaf].sum(1)
        if not torch.is_grad_enabled():
            return hard
        soft = self._soft_margins(features, nodes, thresholds, leaves)
        # Added as a zero, the soft value leaves the hard one exact.
        return hard + (soft - soft.detach())

    def _soft_margins(self, features: Tensor, nodes: Tensor, thresholds: Tensor, leaves: Tensor) -> Tensor:
        """The same trees, each leaf weighted by how far an item goes its way, (n,)."""
        right = torch.sigmoid((features[:, nodes] - thresholds) / (SOFTNESS * self.scale[nodes]))
        share = torch.ones_like(right[..., :1])
        for layer in range(self.depth):
            goes = right[..., 2**layer - 1 : 2 ** (layer + 1) - 1]
            share = torch.stack([share * (1 - goes), share * goes], -1).flatten(-2)
        return (share * leaves).sum((1, 2))

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        from deephash.functional.boosted_trees import boost

        assert affinity is not None
        n = len(features)
        if n > MAX_ITEMS:
            raise InvalidInputError(
                f"{n} training items; FastHash holds the neighbours of at most {MAX_ITEMS} as a matrix. "
                "Fit it on fewer items."
            )
        rows = torch.arange(n)
        neighbours = torch.cat([affinity.wide().among(block).cpu() for block in torch.split(rows, BLOCK_ROWS)])
        blocks = similar_blocks(neighbours, MAX_BLOCK, generator)
        on_cpu = features.cpu().to(self.thresholds.dtype)
        edges = quantile_edges(on_cpu, self.levels)
        levels = np.empty((self.input_dim, n), dtype=np.uint8)
        for j, column in enumerate(on_cpu.T):
            levels[j] = torch.searchsorted(edges[j], column.contiguous(), right=True).numpy()
        # Where every item goes left, the threshold is above all of them.
        edges = torch.cat([edges, on_cpu.amax(0)[:, None] + 1], 1)
        tried = min(self.tried, self.input_dim)
        codes = torch.empty(self.output_dim, n)
        for bit in track(range(self.output_dim), "FastHash"):
            start = torch.randint(2, (n,), generator=generator).float() * 2 - 1
            z = infer_bit(start, codes[:bit], neighbours, blocks, generator)
            drawn = torch.rand(self.trees, self.input_dim, generator=generator).topk(tried).indices.sort().values
            chosen, cuts, leaves, margins = boost(
                levels, z.numpy(), drawn.numpy(), self.depth, self.kept_weight, self.levels
            )
            nodes = torch.from_numpy(chosen)
            self.nodes[bit] = nodes
            self.thresholds[bit] = edges[nodes, torch.from_numpy(cuts)]
            self.leaves[bit] = torch.from_numpy(leaves)
            codes[bit] = torch.from_numpy(margins >= 0).float() * 2 - 1
        self.scale.copy_(on_cpu.std(0).clamp_min(1e-6))
