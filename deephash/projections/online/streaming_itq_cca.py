"""ITQ+CCA of a stream: canonical directions from decayed joint moments of features and labels, rotated on a sample."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.functional.indicators import label_indicators
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import canonical_signs
from deephash.functional.procrustes import procrustes_rotation, random_orthogonal
from deephash.functional.reservoir import reservoir_places
from deephash.functional.running_moments import check_half_life, decay_weights, update_moments
from deephash.projections.itq_cca import LABEL_REGULARISATION
from deephash.projections.online.base import OnlineProjection
from deephash.projections.online.streaming_itq import quantising_rotation
from deephash.validation import InvalidInputError, check_count, check_positive


def canonical_directions_of(
    scatter: Tensor, weight: Tensor, d: int, k: int, regularisation: float
) -> tuple[Tensor, Tensor]:
    """Directions in feature space that correlate best with the labels, from the joint scatter alone.

    The singular vectors of (C_xx + ρI)^(-1/2) C_xy (C_yy + ρ'I)^(-1/2), either root by Cholesky, which changes
    neither singular values nor directions.

    Args:
        scatter: of features and label indicators side by side, float64 (d + c, d + c).
        weight: of all items, float64 scalar; scatter over weight is the covariance C.
        d: feature dimension.
        k: number of directions.
        regularisation: ρ as a multiple of the mean variance of a feature.

    Returns:
        directions float64 (d, m), m = min(k, c), each of unit regularised variance; correlations float64 (m,), falling.
    """
    features, cross, labels = (block / weight for block in (scatter[:d, :d], scatter[:d, d:], scatter[d:, d:]))
    features.diagonal().add_(regularisation * features.diagonal().mean())
    labels.diagonal().add_(LABEL_REGULARISATION)
    feature_root, label_root = torch.linalg.cholesky(features), torch.linalg.cholesky(labels)
    half = torch.linalg.solve_triangular(feature_root, cross, upper=False)
    whitened = torch.linalg.solve_triangular(label_root, half.T, upper=False).T
    left, correlations, _ = torch.linalg.svd(whitened, full_matrices=False)
    m = min(k, len(correlations))
    directions = torch.linalg.solve_triangular(feature_root.T, left[:, :m], upper=True)
    return canonical_signs(directions), correlations[:m].clamp_max(1)


@final
class StreamingITQCCA(OnlineProjection):
    """ITQ+CCA whose directions follow a stream: labels say what counts, and no step size is to be chosen.

    The joint mean and scatter of features and label indicators are sufficient for the canonical directions. Classes may
    appear at any time: the statistics grow by a row and a column, as if the class had been known and not met. The
    rotation is learnt on a reservoir and carried along, as in StreamingITQ, but for a batch in which a class appears: a
    rotation of fewer directions has no place for the new one's. With `carried=False`, without decay and while the
    reservoir holds all items, this is ITQ+CCA of all items, up to rounding.
    Known weakness: linear, and no more directions than classes.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k; there is no bound.
        iterations: rounds of alternating minimisation a batch. The paper's 50, from a random start, change more codes
            than they are worth from a rotation that is carried: on validation queries 2 did as well as 4 and 10.
        regularisation: ridge on the features' covariance, in units of their mean variance.
        half_life: items after which one counts half in mean and scatter; None: all count the same.
        capacity: items of the reservoir; 1,000 came within 1 % of 2,000 on validation queries.
        carried: whether a rotation starts from the one before, where no class is new.
        solve_every: items after which directions are solved for again, and at once where a class is new. Statistics
            take in every batch; solving takes nearly all of the time, and only a new solution makes codes stale.
        classes: number of classes c that there is room for; it grows with the labels that come.

    Raises:
        InvalidInputError: iterations or capacity below 1, regularisation not above 0; in the first batch, labels that
            are the same for all items.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011;
        Hotelling, "Relations between two sets of variates", Biometrika 1936.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2
    in_given_order: ClassVar[bool] = True

    mean: Tensor
    unsolved: Tensor
    weight: Tensor
    stream_mean: Tensor
    scatter: Tensor
    sample: Tensor
    start: Tensor

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        iterations: int = 2,
        regularisation: float = 0.3,
        half_life: float | None = None,
        capacity: int = 1000,
        carried: bool = True,
        solve_every: int = 1,
        classes: int = 1,
    ) -> None:
        super().__init__(input_dim, output_dim)
        check_count(iterations, "iterations")
        check_positive(regularisation, "regularisation")
        check_half_life(half_life)
        check_count(capacity, "capacity")
        check_count(solve_every, "solve_every")
        check_count(classes, "classes")
        self.iterations = iterations
        self.regularisation = regularisation
        self.half_life = half_life
        self.capacity = capacity
        self.carried = carried
        self.solve_every = solve_every
        self.classes = classes
        joint = input_dim + classes
        self.register_buffer("mean", torch.zeros(input_dim))
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("stream_mean", torch.zeros(joint, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(joint, joint, dtype=torch.float64))
        self.register_buffer("sample", torch.zeros(capacity, input_dim))
        self.register_buffer("start", torch.eye(output_dim, dtype=torch.float64))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, W being the canonical directions, scaled and rotated."""
        return project_centred(features, self.mean, self.directions)

    def function_weights(self) -> Tensor:
        """Directions and thresholds."""
        return torch.cat([self.directions.detach(), (self.mean @ self.directions.detach())[None]])

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.classes = 1
        joint = self.input_dim + 1
        self.stream_mean, self.scatter = self.stream_mean.new_zeros(joint), self.scatter.new_zeros(joint, joint)
        for statistic in (self.unsolved, self.weight, self.sample, self.directions):
            statistic.zero_()
        self.start.copy_(random_orthogonal(self.output_dim, generator))

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        seen = int(self.seen)
        indicators = label_indicators(labels, torch.float64).to(features.device)
        self._make_room(indicators.shape[1])
        indicators = torch.nn.functional.pad(indicators, (0, self.classes - indicators.shape[1]))
        weights, remains = decay_weights(len(features), self.half_life)
        joint = torch.cat([features.double(), indicators], 1)
        known = self.stream_mean[self.input_dim :] > 0
        update_moments(self.weight, self.stream_mean, self.scatter, joint, weights, remains)
        new_class = bool((~known & (self.stream_mean[self.input_dim :] > 0)).any())
        rows, places = reservoir_places(seen, len(features), self.capacity, generator)
        self.sample[places] = features[rows].to(self.sample.dtype)
        self.unsolved += len(features)
        if not new_class and int(self.unsolved) < self.solve_every:
            return
        self.unsolved.zero_()
        held = self.sample[: min(seen + len(features), self.capacity)]
        carried, before = self.carried and not new_class, self(held)
        directions, correlations = canonical_directions_of(
            self.scatter, self.weight, self.input_dim, self.output_dim, self.regularisation
        )
        if not bool((correlations > 1e-6).any()):
            raise InvalidInputError(
                f"the labels of all {seen + len(features)} items so far are the same, so nothing can correlate with "
                "them; begin with a batch of two classes or more."
            )
        scaled = torch.zeros(self.input_dim, self.output_dim, dtype=torch.float64, device=features.device)
        scaled[:, : len(correlations)] = directions * correlations
        self.mean.copy_(self.stream_mean[: self.input_dim])
        projections = project_centred(held, self.mean, scaled.to(self.mean.dtype))
        # The rotation that brings the new projections of the sample nearest to the old functions'.
        start = procrustes_rotation(projections.double().T @ before.double())[0] if carried else self.start
        self.directions.copy_(scaled @ quantising_rotation(projections, start, self.iterations))

    def _make_room(self, classes: int) -> None:
        """Statistics of classes that had not been met: their indicators were 0 so far."""
        grow = classes - self.classes
        if grow > 0:
            self.stream_mean = torch.nn.functional.pad(self.stream_mean, (0, grow))
            self.scatter = torch.nn.functional.pad(self.scatter, (0, grow, 0, grow))
            self.classes = classes
