"""PCA hashing: the principal components themselves (Wang et al., CVPR 2006; Gong & Lazebnik, CVPR 2011)."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.linear_map import project_centred
from deephash.functional.principal_components import principal_components
from deephash.projections.base import Projection
from deephash.validation import check_directions


@final
class PCAH(Projection):
    """Projections on the k directions in which the training data vary most.

    Known weakness: each direction gets one bit whatever its variance, and the later ones carry mostly noise, so that
    retrieval falls as codes grow longer. ITQ's rotation mends it.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.

    Raises:
        InvalidInputError: more projections than dimensions; in `fit`, more than directions in which the rows vary,
            at most n - 1 for n rows: the others are any, so their bits would be the solver's choice.

    References:
        Wang, Zhang, Jing & Ma, "AnnoSearch: image auto-annotation by search", CVPR 2006. Named PCA direct in Gong &
        Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011.
    """

    minimum_rows: ClassVar[int] = 2
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)
    fits_on_shares: ClassVar[bool] = True

    mean: Tensor

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"PCAH can give for d={input_dim} features")
        self.register_buffer("mean", torch.zeros(input_dim))
        self.directions = nn.Parameter(torch.zeros(input_dim, output_dim))

    def forward(self, features: Tensor) -> Tensor:
        """(X - μ) W, the columns of W orthonormal."""
        return project_centred(features, self.mean, self.directions)

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {len(features)} training rows vary")
        self.mean.copy_(mean)
        self.directions.copy_(components)
