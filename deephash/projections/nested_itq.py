"""Nested iterative quantisation: ITQ block by block, so that the prefixes of a code are good codes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import principal_components
from deephash.functional.procrustes import random_orthogonal
from deephash.functional.row_shares import sum_over_processes
from deephash.io.progress import track
from deephash.projections.itq import BLOCK_ROWS, project_in_blocks
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import InvalidInputError, check_count


def missing_metric_root(metric: Tensor, variances: Tensor, bits: int) -> Tensor:
    """Compute the root of what a code's metric lacks to weight its leading components equally.

    The target is α I on the first r = min(bits, m) components, with α = bits / Σ λ over them: the metric of ITQ's code
    of that length. Directions that have more than their share already count as lacking nothing.

    Args:
        metric: M = Σ w wᵀ over the bits so far, float64 (m, m); each w has unit variance, wᵀ Λ w = 1.
        variances: λ along the components, descending, float64 (m,).
        bits: code length with the next block.

    Returns:
        H float64 (r, r), symmetric, with H² = (α I - M)₊ on the first r components.
    """
    r = min(bits, len(variances))
    target = bits / variances[:r].sum()
    lacking, axes = torch.linalg.eigh(target * torch.eye(r, dtype=metric.dtype, device=metric.device) - metric[:r, :r])
    root: Tensor = (axes * lacking.clamp_min(0).sqrt()) @ axes.T
    return root


def balanced_directions(projections: Tensor, root: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Learn the columns of H Z, Z with orthonormal columns, whose projections lie nearest to their signs.

    The alternation is ITQ's, with the data P H in place of P: B = sign(P H Z), then Z is the orthonormal factor of
    (P H)ᵀ B, which maximises tr(Zᵀ (P H)ᵀ B).

    Args:
        projections: P, the first r principal components of the rows, floating (n, r).
        root: H, float64 (r, r).
        start: Z of the first iteration, float64 (r, c).
        iterations: number of alternations.

    Returns:
        H Z float64 (r, c).
    """
    directions = root @ start
    for _ in range(iterations):
        agreement = root @ sum_over_processes(_correlate_with_signs(projections, directions))
        left, _, right = torch.linalg.svd(agreement, full_matrices=False)
        directions = root @ (left @ right)
    return directions


def _correlate_with_signs(projections: Tensor, directions: Tensor) -> Tensor:
    """Pᵀ sign(P W), float64 (r, c), summed over blocks of rows.

    The few directions are rows here: products with long rows take a fifth of the time of those with short ones.
    """
    rows = directions.to(projections.dtype).T.contiguous()
    total = torch.zeros(rows.shape, dtype=torch.float64, device=projections.device)
    for block in torch.split(projections, BLOCK_ROWS):
        bits = (rows @ block.T).ge(0).to(block.dtype)
        total += bits.mul_(2).sub_(1) @ block
    return total.T


def nested_directions(
    projections: Tensor, variances: Tensor, ends: Sequence[int], iterations: int, generator: torch.Generator
) -> Tensor:
    """Learn directions in the space of principal components, a block after the other.

    Args:
        projections: P, the rows' principal components by descending variance, floating (n, m), centred.
        variances: λ along the components, float64 (m,).
        ends: number of directions after each block, ascending; a block has at most m.
        iterations: alternations for each block.
        generator: CPU generator of the random starts.

    Returns:
        float64 (m, ends[-1]); the projections on each column have unit variance.
    """
    m = len(variances)
    learnt = torch.zeros(m, ends[-1], dtype=torch.float64, device=projections.device)
    metric = torch.zeros(m, m, dtype=torch.float64, device=projections.device)
    for first, last in track(list(pairwise([0, *ends])), "Nested ITQ"):
        root = missing_metric_root(metric, variances, last)
        r = len(root)
        start = random_orthogonal(r, generator)[:, : last - first].to(root.device)
        new = balanced_directions(projections[:, :r], root, start, iterations)
        new = new / (new.square() * variances[:r, None]).sum(0).sqrt()
        learnt[:r, first:last] = new
        metric[:r, :r] += new @ new.T
    return learnt


@final
class NestedITQ(LinearProjection):
    """Nested iterative quantisation: learns a code whose prefixes retrieve like codes of their own length.

    ITQ spreads the variance of the first k principal components evenly over k bits. A prefix of its code is a poor
    code, because its bits see all components, and most of them have little variance. Bits of separate blocks of
    components are no better: bits of the last blocks weigh as much as those of the first, although their variance is
    small.
    Nested ITQ learns bits in blocks, too, but each block completes the metric of those before. A bit whose direction w
    is scaled to unit variance adds w wᵀ to the metric that Hamming distance follows. ITQ's code of b bits has the
    metric α I on the first b components. Here, a new block takes its directions from what α I still lacks, so it sees
    old components too, but weaker than new ones. Among these directions it chooses by ITQ's alternation. The first
    block is ITQ's code of its length. There may be more bits than dimensions.
    Known weakness: a prefix that is shorter than the first block is below ITQ's code of that length. The directions are
    not orthogonal, and each projection has unit variance, so projections do not show the variances of components.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k; may exceed d.
        shortest: length of the first block, the shortest prefix that is searched; a code of at most this length is
            ITQ's. Lower values serve shorter prefixes at a cost to the next ones.
        block: projections of each further block; 8, a byte, makes each further prefix of whole bytes complete.
        iterations: alternations for each block; with more than 20, recall changes less than between random starts.

    `shortest` and `block` are lowered to the number of directions in which the training rows vary.

    Raises:
        InvalidInputError: shortest, block or iterations is below 1; in `fit`, all training rows are equal.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011, for the
        alternation. The blocks and their metric are this package's own. Nested representations: Kusupati et al.,
        "Matryoshka representation learning", NeurIPS 2022.
    """

    minimum_rows: ClassVar[int] = 2
    fits_on_shares: ClassVar[bool] = True

    def __init__(
        self, input_dim: int, output_dim: int, shortest: int = 64, block: int = 8, iterations: int = 20
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(shortest, "shortest")
        check_count(block, "block")
        check_count(iterations, "iterations")
        self.shortest = shortest
        self.block = block
        self.iterations = iterations

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, min(self.output_dim, self.input_dim))
        if not len(variances):
            raise InvalidInputError(
                f"the {len(features)} training rows are all equal; give rows that differ, so that directions exist."
            )
        self.mean.copy_(mean)
        self.shortest = min(self.shortest, len(variances))
        self.block = min(self.block, len(variances))
        ends = [*range(self.shortest, self.output_dim, self.block), self.output_dim]
        projections = project_in_blocks(features, self.mean, components)
        learnt = nested_directions(projections, variances, ends, self.iterations, generator)
        self.directions.copy_(components @ learnt)
