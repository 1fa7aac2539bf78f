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

# Maximum number of items, whose neighbours are held as a matrix of bool: 1 GB.
MAX_ITEMS = 32_768
MAX_DEPTH = 20
BLOCK_ROWS = 1024
# Maximum number of items per block: small cuts are fast, and later blocks see the result of earlier ones.
MAX_BLOCK = 100
# Number of rounds of the block search over all items, for each bit.
SWEEPS = 2
# A soft cut rises over this share of the standard deviation of its feature.
SOFTNESS = 0.1


def pair_terms(distances: Tensor, neighbours: Tensor, bit: int) -> Tensor:
    """Cost of a pair if its bits agree minus the cost if they differ, as whole numbers.

    Let D be the Hamming distance over the first r bits. The loss is D² for neighbours and (r - D)² for others, a
    quarter of the loss of KSH. The term is below 0 for neighbours and above 0 for other pairs, so that every bit
    depends on the labels; with a hinge loss, bits would become indifferent once all classes are r / 2 apart.

    Args:
        distances: Hamming distances over the first r - 1 bits, floating (m, n).
        neighbours: bool (m, n).
        bit: number r of this bit, from 1.

    Returns:
        (m, n).
    """
    return torch.where(neighbours, -2 * distances - 1, 2 * (bit - distances) - 1)


def infer_bit(z: Tensor, codes: Tensor, neighbours: Tensor, blocks: list[Tensor], generator: torch.Generator) -> Tensor:
    """Reduce Σ a_ij z_i z_j over z in {-1, 1}, with a from `pair_terms`.

    Each block of items in turn is set to its best values given all other items.

    Args:
        z: initial values, floating (n,).
        codes: the previous bits, in {-1, 1}, (r - 1, n).
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
    """Compute thresholds that divide each feature into levels with equal numbers of rows.

    Args:
        features: floating (n, d).
        levels: number of levels.

    Returns:
        (d, levels - 1), ascending; a value reaches level l if it is at least threshold l - 1. Thresholds repeat if a
        feature has few distinct values.
    """
    ranks = (torch.arange(1, levels) * len(features)) // levels
    return torch.stack([column.sort().values[ranks.to(column.device)] for column in features.T])


@final
class FastHash(Projection):
    """FastHash: finds bits by graph cuts on a pairwise loss, then learns them with boosted decision trees.

    The graph cuts work on blocks of items that are all neighbours of each other. For these, the loss is submodular, and
    a minimum cut gives the best bits. Boosted trees then learn to predict the bit. The next bit builds on the
    predictions of the trees, not on the result of the cuts. Trees are not linear, need no distances, and look at few
    features of an item. Projections are the outputs of the trees, a step function. Gradients are those of soft cuts:
    sigmoids of (x - threshold) divided by a tenth of the feature's standard deviation. They reach the features,
    thresholds and leaf values (straight through).
    Known weakness: the loss includes all pairs of items, so there must be few items. Ensembles of many trees fit
    the training items far better than other items.

    Shape:
        features (n, d) → projections (n, k), the margins of the ensembles.

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k.
        trees: number of trees per bit.
        depth: depth of a tree; 4 as in the paper.
        levels: number of levels that a feature is quantised to while trees are learnt, 2 to 256; thousands of items
            need only a few.
        tried: number of random features that a tree chooses from (LazyBoost), at most d.
        kept_weight: share of the total weight that is kept when items of small weight are left out of a tree (weight
            trimming).

    Raises:
        InvalidInputError: an argument is out of range; in `fit`, the affinity is missing, or there are more than 32,768
            items.

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
            raise InvalidInputError(f"levels={levels}; expected 2 to 256, one byte per feature.")
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"depth={depth}; expected 1 to {MAX_DEPTH}, a million leaves per tree.")
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
        """Sum the leaf values, one bit's trees at a time; gradients are those of soft cuts."""
        features = features.to(self.thresholds.dtype)
        return torch.stack([self._compute_margins(features, bit) for bit in range(self.output_dim)], 1)

    def _compute_margins(self, features: Tensor, bit: int) -> Tensor:
        nodes, thresholds, leaves = self.nodes[bit], self.thresholds[bit], self.leaves[bit]
        with torch.no_grad():
            offsets = torch.arange(self.trees, device=features.device) * nodes.shape[1]
            node = torch.zeros(features.shape[0], self.trees, dtype=torch.int64, device=features.device)
            for _ in range(self.depth):
                place = node + offsets
                right = features.gather(1, nodes.flatten()[place]) >= thresholds.flatten()[place]
                node = 2 * node + 1 + right
            leaf = node - nodes.shape[1] + offsets + torch.arange(self.trees, device=features.device)
            hard = leaves.flatten()[leaf].sum(1)
        if not torch.is_grad_enabled():
            return hard
        soft = self._compute_soft_margins(features, nodes, thresholds, leaves)
        # The soft value adds exactly 0, and only its gradient remains.
        return hard + (soft - soft.detach())

    def _compute_soft_margins(self, features: Tensor, nodes: Tensor, thresholds: Tensor, leaves: Tensor) -> Tensor:
        """Compute margins with soft cuts, (n,): each leaf is weighted by the share of an item that reaches it."""
        right = torch.sigmoid((features[:, nodes] - thresholds) / (SOFTNESS * self.scale[nodes]))
        share = torch.ones_like(right[..., :1])
        for layer in range(self.depth):
            rightwards = right[..., 2**layer - 1 : 2 ** (layer + 1) - 1]
            share = torch.stack([share * (1 - rightwards), share * rightwards], -1).flatten(-2)
        return (share * leaves).sum((1, 2))

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        from deephash.functional.boosted_trees import boost

        assert affinity is not None
        n = len(features)
        if n > MAX_ITEMS:
            raise InvalidInputError(
                f"{n} training items; FastHash stores the neighbours of at most {MAX_ITEMS} as a matrix. "
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
        # A node that sends every item left has a threshold above all values.
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
