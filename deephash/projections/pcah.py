"""PCA hashing: the principal components themselves (Wang et al., CVPR 2006; Gong & Lazebnik, CVPR 2011)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import principal_components
from deephash.projections.linear_projection import LinearProjection
from deephash.validation import check_directions


@final
class PCAH(LinearProjection):
    """PCA hashing: learns the k directions in which the training data vary most.

    The columns of W are orthonormal. Each direction gets one bit.
    Known weakness: the later directions carry mostly noise but get as many bits as the first ones, so that retrieval
    becomes worse as codes grow longer. The rotation of ITQ corrects this.

    Shape:
        features (n, d) → projections (n, k).

    Args:
        input_dim: feature dimension d.
        output_dim: number of projections k, at most d.

    Raises:
        InvalidInputError: k exceeds d; in `fit`, k exceeds the number of directions in which the rows vary. There are
            at most n - 1 of them for n rows, and the solver would choose further directions arbitrarily.

    References:
        Wang, Zhang, Jing & Ma, "AnnoSearch: image auto-annotation by search", CVPR 2006. Called PCA direct in Gong &
        Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes", CVPR 2011.
    """

    minimum_rows: ClassVar[int] = 2
    orthonormal: ClassVar[tuple[str, ...]] = ("directions",)
    fits_on_shares: ClassVar[bool] = True

    def __init__(self, input_dim: int, output_dim: int) -> None:
        super().__init__(input_dim, output_dim)
        check_directions(output_dim, input_dim, f"PCAH can give for d={input_dim} features")

    def _fit(
        self, features: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        mean, components, variances = principal_components(features, self.output_dim)
        check_directions(self.output_dim, len(variances), f"in which the {len(features)} training rows vary")
        self.mean.copy_(mean)
        self.directions.copy_(components)
