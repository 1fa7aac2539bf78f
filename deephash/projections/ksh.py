"""Supervised hashing with kernels (Liu, Wang, Ji, Jiang & Chang, CVPR 2012)."""

from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.encoders.anchor_map import AnchorMap
from deephash.functional.generalised_eigenproblem import largest_direction, whitening
from deephash.functional.principal_components import canonical_signs
from deephash.io.progress import track
from deephash.projections.base import Projection
from deephash.validation import InvalidInputError, check_count

# Items with different neighbours whose affinity is held as a matrix: 1 GB of float32.
MAX_GROUPS = 16_384
BLOCK_ROWS = 1024
# Change of the objective for each item that ends the gradient method, as in the authors' code.
SETTLED = 1e-2
# Groups that a dense matrix of their members serves; each takes n operations of a product.
FEW_GROUPS = 64


def group_by_neighbours(affinity: TrainingAffinity) -> tuple[Tensor, Tensor]:
    """The label matrix S in {-1, 1} (n, n), held as one row and column for all items that share their neighbours.

    With class labels the groups are the classes, so S comes to c × c; with an ε-ball it stays n × n.

    Args:
        affinity: among the n items; taken to be symmetric.

    Returns:
        The group of each item, int64 (n,); and S among groups, float32 (g, g).

    Raises:
        InvalidInputError: more than 16,384 groups.
    """
    rows = torch.split(torch.arange(len(affinity)), BLOCK_ROWS)
    packed = np.concatenate([np.packbits(affinity.among(block).numpy(), axis=1) for block in rows])
    _, first, group = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
    if len(first) > MAX_GROUPS:
        raise InvalidInputError(
            f"the affinity tells {len(first)} training items apart, and KSH holds it as a matrix of at most "
            f"{MAX_GROUPS}; fit it on fewer items."
        )
    del packed
    among = torch.cat(
        [
            affinity.among(block)[:, torch.from_numpy(first)]
            for block in torch.split(torch.from_numpy(first), BLOCK_ROWS)
        ]
    )
    return torch.from_numpy(group.ravel()), among.float() * 2 - 1


class ResidualLabels:
    """R = r S - Σ h hᵀ over the bits so far: products with it, and yᵀ R y, without an n × n matrix.

    Both go through sums of y: over each group, and against each bit. yᵀ R y takes these alone.

    Args:
        group: of each item, int64 (n,).
        labels: S among groups, floating (g, g).
        codes: the bits so far, ±1 (b, n).
        bits: r.
    """

    def __init__(self, group: Tensor, labels: Tensor, codes: Tensor, bits: int) -> None:
        self.group, self.labels, self.codes, self.bits = group, labels, codes, bits
        self.groups = len(labels)
        # Of few groups, one product of a matrix takes the sums over all of them and against all bits.
        self.dense: tuple[Tensor, Tensor] | None = None
        if self.groups <= FEW_GROUPS:
            members = torch.zeros(self.groups, len(group), dtype=codes.dtype, device=codes.device)
            members[group, torch.arange(len(group), device=group.device)] = 1
            weights = -torch.eye(self.groups + len(codes), dtype=codes.dtype, device=codes.device)
            weights[: self.groups, : self.groups] = bits * labels
            self.dense = torch.cat([members, codes]), weights

    def sums(self, y: Tensor) -> Tensor:
        """Of y (n,), over each group and against each bit, (g + b,)."""
        if self.dense is not None:
            return self.dense[0] @ y
        over_groups = torch.zeros(self.groups, dtype=y.dtype, device=y.device).index_add_(0, self.group, y)
        return torch.cat([over_groups, self.codes @ y])

    def weighed(self, sums: Tensor) -> Tensor:
        """The sums over groups times r S, and minus those against bits, (g + b,)."""
        if self.dense is not None:
            return self.dense[1] @ sums
        return torch.cat([self.bits * (self.labels @ sums[: self.groups]), -sums[self.groups :]])

    def fit(self, y: Tensor) -> float:
        """The number yᵀ R y."""
        sums = self.sums(y)
        return float(sums @ self.weighed(sums))

    def product(self, weighed: Tensor) -> Tensor:
        """R y (n,), of the weighed sums of y."""
        if self.dense is not None:
            return self.dense[0].T @ weighed
        return weighed[: self.groups][self.group] + self.codes.T @ weighed[self.groups :]


def sigmoid_direction(kernel: Tensor, residual: ResidualLabels, start: Tensor, rounds: int) -> Tensor:
    """Lower -φ(K a)ᵀ R φ(K a), φ(x) = 2 / (1 + exp(-x)) - 1 being a smooth sign, by Nesterov's method.

    A step's length is found by doubling its inverse until the quadratic bound holds. As K a is linear, the two
    products with K of a round serve every length that is tried, and what is tried takes sums over items alone.

    Args:
        kernel: K, floating (n, m), centred; fastest where its columns are contiguous.
        residual: R, the residual label matrix, symmetric.
        start: a (m,).
        rounds: most steps.

    Returns:
        a (m,).
    """
    previous, current = start, start
    previous_margins = margins = kernel @ start
    cost = -residual.fit(torch.tanh(margins / 2))
    momentum, inverse_step = (0.0, 1.0), 1.0
    for _ in range(rounds):
        ahead = (momentum[0] - 1) / momentum[1]
        probe = torch.lerp(previous, current, 1 + ahead)
        probe_margins = torch.lerp(previous_margins, margins, 1 + ahead)
        y = torch.tanh(probe_margins / 2)
        sums = residual.sums(y)
        weighed = residual.weighed(sums)
        probe_cost = -float(sums @ weighed)
        product = residual.product(weighed)
        # Downhill: minus the gradient.
        descent = kernel.T @ torch.addcmul(product, product * y, y, value=-1)
        squared = float(descent @ descent)
        descent_margins = kernel @ descent
        for _ in range(50):
            tried_margins = torch.add(probe_margins, descent_margins, alpha=1 / inverse_step)
            tried_cost = -residual.fit(torch.tanh(tried_margins / 2))
            if tried_cost <= probe_cost - squared / (2 * inverse_step):
                break
            inverse_step *= 2
        else:
            return current
        previous, current = current, torch.add(probe, descent, alpha=1 / inverse_step)
        previous_margins, margins = margins, tried_margins
        momentum = momentum[1], (1 + (1 + 4 * momentum[1] ** 2) ** 0.5) / 2
        change, cost = abs(tried_cost - cost), tried_cost
        if change <= SETTLED * len(kernel):
            break
    return current


def fit_codes_to_labels(
    kernel: Tensor, group: Tensor, labels: Tensor, bits: int, rounds: int = 500
) -> tuple[Tensor, Tensor, Tensor]:
    """Hash functions sign(K a), one after another, each for what those before leave of r S.

    Args:
        kernel: K, floating (n, m), centred.
        group: of each item, int64 (n,).
        labels: S among groups, (g, g).
        bits: r.
        rounds: most gradient steps a bit.

    Returns:
        a of each bit, float64 (m, r); whether the smoothed solution was kept rather than the spectral one, bool (r,);
        and ‖Σ y yᵀ / r - S‖² / n² after each bit, float64 (r,).
    """
    n = len(kernel)
    codes = torch.zeros(bits, n, dtype=kernel.dtype, device=kernel.device)
    directions = torch.empty(kernel.shape[1], bits, dtype=torch.float64, device=kernel.device)
    smoothed = torch.zeros(bits, dtype=torch.bool)
    losses = torch.empty(bits, dtype=torch.float64)
    labels = labels.to(kernel)
    # Products with a vector are faster by contiguous columns, either way round.
    kernel = kernel.T.contiguous().T
    sums = torch.zeros(len(labels), kernel.shape[1], dtype=torch.float64, device=kernel.device)
    sums.index_add_(0, group, kernel.double())
    whitened = whitening(kernel.double().T @ kernel.double())
    # Kᵀ R K between whitened directions, to which a bit adds an outer product.
    agreement = bits * ((sums @ whitened).T @ labels.double() @ (sums @ whitened))
    identity = torch.eye(len(agreement), dtype=torch.float64, device=kernel.device)
    loss = 1.0
    for bit in track(range(bits), "KSH"):
        residual = ResidualLabels(group, labels, codes[:bit], bits)
        # The relaxation without sign: the a that maximises aᵀ Kᵀ R K a with ‖K a‖² = n.
        leading = largest_direction(agreement, identity)
        spectral = canonical_signs((whitened @ leading)[:, None])[:, 0].to(kernel.dtype) * n**0.5
        best = -float("inf")
        for is_smoothed, direction in enumerate((spectral, sigmoid_direction(kernel, residual, spectral, rounds))):
            y = (kernel @ direction >= 0).to(kernel.dtype) * 2 - 1
            fit = residual.fit(y)
            if fit > best:
                best, codes[bit] = fit, y
                directions[:, bit] = direction.double()
                smoothed[bit] = bool(is_smoothed)
        aligned = whitened.T @ (kernel.T @ codes[bit]).double()
        agreement -= torch.outer(aligned, aligned)
        loss += (1 - 2 * best / n**2) / bits**2
        losses[bit] = loss
    return directions, smoothed, losses


@final
class KSH(Projection):
    """Kernel hyperplanes whose codes' inner products fit r for neighbours and -r for the others.

    Inner products of codes are Hamming distances, so the fit orders them as the labels do; and being sums over bits
    they can be fitted one bit after another, each to what the ones before have left. A bit starts from the spectral
    solution, which leaves out the sign, and goes on with a sigmoid in its place; of the two, the one whose bits fit
    better stays. Known weakness: every pair of items counts, so the items must be few (some thousand) or fall into few
    classes, and pairs of different classes, which are many, outweigh those of one.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, the r of the paper.
        anchors: number of anchors m, 300 as in the paper; `fit` lowers it to the number of training items.
        selection: "random" training items as in the paper, or "kmeans" for centres of clusters.
        rounds: most gradient steps a bit; 500, as in the authors' code. They fit the labelled items closer than 200 do,
            but rank others no better: on CIFAR-10 GIST mAP is the same with 1,000 labelled items, and .004 lower with
            2,000 from 32 bits on.

    Attributes:
        smoothed: bool (k,), whether the bit is the sigmoid's solution rather than the spectral one.
        losses: float64 (k,), ‖Σ y yᵀ / r - S‖² / n² after each bit of the last fit.

    Raises:
        InvalidInputError: anchors or rounds below 1, or another selection; in `fit`, no affinity, or one that tells
            more than 16,384 items apart.

    References:
        Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"affinity"})
    minimum_rows: ClassVar[int] = 2
    samples_rows: ClassVar[bool] = True

    mean: Tensor
    smoothed: Tensor
    losses: Tensor

    def __init__(
        self, input_dim: int, output_dim: int, anchors: int = 300, selection: str = "random", rounds: int = 500
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(rounds, "rounds")
        self.kernel = AnchorMap(input_dim, anchors, selection)
        self.anchors = anchors
        self.selection = selection
        self.rounds = rounds
        self.register_buffer("mean", torch.zeros(anchors))
        self.register_buffer("smoothed", torch.zeros(output_dim, dtype=torch.bool))
        self.register_buffer("losses", torch.zeros(output_dim, dtype=torch.float64))
        self.weights = nn.Parameter(torch.zeros(anchors, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(κ(X) - μ) A, κ being the kernel values of the anchors."""
        values: Tensor = self.kernel(features)
        return (values - self.mean) @ self.weights

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        assert affinity is not None
        # Pairs of others outweigh those of neighbours by far where neighbours are few.
        group, among = group_by_neighbours(affinity.wide())
        self.anchors = self.kernel.fit(features, generator).anchors
        kernel = torch.cat([self.kernel(block) for block in torch.split(features, BLOCK_ROWS)])
        self.mean = kernel.mean(0, dtype=torch.float64).to(self.mean.dtype)
        kernel -= self.mean
        weights, smoothed, losses = fit_codes_to_labels(
            kernel, group.to(kernel.device), among, self.output_dim, self.rounds
        )
        self.weights = nn.Parameter(weights.to(self.weights.dtype))
        self.smoothed.copy_(smoothed)
        self.losses.copy_(losses)
