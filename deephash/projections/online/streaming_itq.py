"""ITQ of a stream: principal components from decayed moments, rotated on a sample of the items seen."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.projections.online.moving_projection import RotatedProjection
from deephash.projections.online.streaming_pcah import leading_components
from deephash.validation import check_directions


@final
class StreamingITQ(RotatedProjection):
    """Iterative quantisation of a stream: learns principal components that follow it, and a rotation of them.

    The mean and scatter of the stream determine the components. The rotation needs items: it is learnt on a uniform
    sample of the items seen, held in a reservoir. A new rotation starts from the previous one, transferred to the new
    components, so that bits keep their meaning and few codes change. With `carried=False`, every rotation starts from
    the same random matrix. Then, without decay and while the reservoir holds all items, the result is ITQ of all items,
    up to rounding. The columns of W stay orthonormal.
    Known weakness: it uses no labels; the reservoir remembers items that a half-life should forget.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.
        iterations: iterations of alternating minimisation per batch. Starting from the previous rotation, the 50 of
            the paper would change more codes than the gain is worth: 10 were better on validation queries.
        half_life: number of items after which an item counts half in mean and scatter; None weighs all items equally.
        capacity: number of items in the reservoir.
        carried: whether a rotation starts from the previous one.

    Raises:
        InvalidInputError: iterations or capacity is below 1, or there are more projections than dimensions, or than
            directions in which the first batch varies.

    References:
        Gong & Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011; Vitter,
        "Random sampling with a reservoir", ACM TOMS 1985.
    """

    minimum_rows: ClassVar[int] = 2
    in_given_order: ClassVar[bool] = True
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        iterations: int = 10,
        half_life: float | None = None,
        capacity: int = 2000,
        carried: bool = True,
    ) -> None:
        super().__init__(input_dim, output_dim, iterations, half_life, capacity, carried)
        check_directions(output_dim, input_dim, f"StreamingITQ can give for d={input_dim} features")

    def _learn(self, features: Tensor, labels: Tensor | None, generator: torch.Generator) -> None:
        seen = int(self.seen)
        self._update_moments(features)
        held = self._add_to_sample(features, generator)
        components, variances = leading_components(self.scatter / self.weight, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {seen + len(features)} items so far vary")
        self._rotate(components, held, self.carried and seen > 0)
