"""ITQ+CCA of a stream: canonical directions from decayed joint moments of features and labels, rotated on a sample."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from deephash.functional.indicators import label_indicators
from deephash.functional.principal_components import canonical_signs
from deephash.projections.itq_cca import LABEL_REGULARISATION, scale_by_correlation
from deephash.projections.online.moving_projection import RotatedProjection
from deephash.validation import check_count, check_positive


def canonical_directions_from_scatter(
    scatter: Tensor, weight: Tensor, d: int, k: int, regularisation: float
) -> tuple[Tensor, Tensor]:
    """Find the directions in feature space that correlate best with the labels, from the joint scatter.

    They follow from the singular vectors of (C_xx + ρI)^(-1/2) C_xy (C_yy + ρ'I)^(-1/2). Both roots are Cholesky
    factors, which changes neither singular values nor directions.

    Args:
        scatter: scatter matrix of features and label indicators side by side, float64 (d + c, d + c).
        weight: total weight of the items, float64 scalar; scatter / weight is the covariance C.
        d: feature dimension.
        k: number of directions.
        regularisation: ρ as a multiple of the mean variance of a feature.

    Returns:
        directions float64 (d, m), m = min(k, c), each of unit regularised variance; correlations float64 (m,),
        descending.
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
class StreamingITQCCA(RotatedProjection):
    """Iterative quantisation with canonical correlation analysis of a stream: learns directions that follow its labels.

    The joint mean and scatter of features and label indicators determine the canonical directions, so no step size has
    to be chosen. New classes may appear at any time: the statistics grow by a row and a column, as if the class had
    been known but not seen. The rotation is learnt on a reservoir and starts from the previous one, as in StreamingITQ.
    If a batch contains a new class, the rotation starts from a random matrix, because the previous rotation has no
    place for the additional direction. With `carried=False`, without decay and while the reservoir holds all items, the
    result is ITQ+CCA of all items, up to rounding.
    Known weakness: it is linear and has no more directions than classes.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, without a limit.
        iterations: iterations of alternating minimisation per batch. Starting from the previous rotation, the 50 of
            the paper would change more codes than the gain is worth: 2 were as good as 4 and 10 on validation queries.
        regularisation: ridge on the covariance of the features, in units of their mean variance.
        half_life: number of items after which an item counts half in mean and scatter; None weighs all items equally.
        capacity: number of items in the reservoir; with 1,000, results were within 1 % of those with 2,000 on
            validation queries.
        carried: whether a rotation starts from the previous one if no class is new.
        solve_every: number of items after which the directions are computed again; a new class triggers this at once.
            Every batch updates the statistics; computing directions takes nearly all of the time, and only new
            directions make codes stale.
        classes: number of classes c that there is room for; it grows with the labels.

    Raises:
        InvalidInputError: iterations or capacity is below 1, or regularisation is not above 0; in the first batch, all
            items have the same labels.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011;
        Hotelling, "Relations between two sets of variates", Biometrika 1936.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    minimum_rows: ClassVar[int] = 2
    in_given_order: ClassVar[bool] = True

    unsolved: Tensor

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
        check_count(classes, "classes")
        super().__init__(input_dim, output_dim, iterations, half_life, capacity, carried, classes)
        check_positive(regularisation, "regularisation")
        check_count(solve_every, "solve_every")
        self.regularisation = regularisation
        self.solve_every = solve_every
        self.classes = classes
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def _start(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        self.classes = 1
        size = self.input_dim + 1
        self.stream_mean, self.scatter = self.stream_mean.new_zeros(size), self.scatter.new_zeros(size, size)
        self.unsolved.zero_()
        super()._start(features, labels, generator)

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        assert labels is not None
        indicators = label_indicators(labels, torch.float64).to(features.device)
        self._add_classes(indicators.shape[1])
        indicators = pad(indicators, (0, self.classes - indicators.shape[1]))
        known = self.stream_mean[self.input_dim :] > 0
        self._update_moments(torch.cat([features.double(), indicators], 1))
        has_new_class = bool((~known & (self.stream_mean[self.input_dim :] > 0)).any())
        held = self._add_to_sample(features, generator)
        self.unsolved += len(features)
        if not has_new_class and int(self.unsolved) < self.solve_every:
            return
        self.unsolved.zero_()
        directions, correlations = canonical_directions_from_scatter(
            self.scatter, self.weight, self.input_dim, self.output_dim, self.regularisation
        )
        items = f"{int(self.seen) + len(features)} items so far"
        scaled = scale_by_correlation(directions, correlations, self.output_dim, items, "begin with a batch")
        self._rotate(scaled, held, self.carried and not has_new_class)

    def _add_classes(self, classes: int) -> None:
        """Extend the statistics to classes that had not been seen; their indicators were 0 so far."""
        grow = classes - self.classes
        if grow > 0:
            self.stream_mean = pad(self.stream_mean, (0, grow))
            self.scatter = pad(self.scatter, (0, grow, 0, grow))
            self.classes = classes
