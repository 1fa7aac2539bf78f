"""Whitening: centred vectors with more equal variances."""

from dataclasses import dataclass
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.conversion import convert_numpy_numbers
from deephash.functional.principal_components import principal_components
from deephash.validation import InvalidInputError, as_features, is_number

# Directions below this share of the largest variance are rounding errors and are left out.
MIN_VARIANCE = 1e-6


@final
@dataclass(frozen=True)
class Whitening:
    """Principal components divided by a power of their standard deviation, at unit length, before a hasher or a coder.

    Embeddings share a mean and some directions of large variance that carry little meaning. With less weight on these
    directions, neighbours by cosine improve in many tasks, and codes preserve the neighbours better. Apply the same map
    to queries. Neighbours differ from those of the original vectors, so choose the power on your own queries, from 0
    (only centring) to 1 (equal variances).

    Args:
        mean: float32 (d,).
        directions: float32 (d, k), one column per component.

    References:
        Jégou & Chum, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening", ECCV
        2012. Su, Cao, Liu & Ou, "Whitening sentence representations for better semantics and faster retrieval", 2021.

    Examples:
        >>> vectors = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 1.0])
        >>> whitened = Whitening.fit(vectors, power=1)(vectors)
        >>> bool((whitened.std(0) - 0.7).abs().max() < 0.05)
        True
    """

    mean: Tensor
    directions: Tensor

    @classmethod
    @convert_numpy_numbers
    def fit(cls, vectors: Tensor | ArrayLike, power: float = 0.5) -> Self:
        """Learn mean and components from vectors.

        Args:
            vectors: floating (n, d), n at least 2.
            power: power of the standard deviation by which components are divided, from 0 to 1.

        Raises:
            InvalidInputError: the vectors are invalid or all equal, or the power is out of bounds.
        """
        vectors = as_features(vectors, minimum_rows=2, name="vectors")
        if not is_number(power) or not 0 <= power <= 1:
            raise InvalidInputError(f"power={power!r}; expected a number from 0 (only centring) to 1.")
        mean, components, variances = principal_components(vectors, vectors.shape[1])
        kept = variances > MIN_VARIANCE * variances.max() if len(variances) else variances > 0
        if not kept.any():
            raise InvalidInputError(f"all {len(vectors)} vectors are equal; give some that differ.")
        directions = components[:, : len(variances)][:, kept] / variances[kept].pow(power / 2)
        return cls(mean.float(), directions.float())

    def __call__(self, vectors: Tensor | ArrayLike) -> Tensor:
        """Return whitened vectors of unit length, float32 (n, k), for vectors (n, d).

        Raises:
            InvalidInputError: the vectors have the wrong dimension or are not finite.
        """
        vectors = as_features(vectors, len(self.mean), name="vectors")
        return torch.nn.functional.normalize((vectors.float() - self.mean) @ self.directions)
