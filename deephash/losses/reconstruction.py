"""Features from codes by a linear decoder (Carreira-Perpiñán & Raziperchikolaei, CVPR 2015)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.random_linear import random_linear
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_count


def standardise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Centre features and divide them by one deviation for all dimensions, so that directions keep their weight.

    Args:
        features: floating (n, d).

    Returns:
        (n, d), and whether the features vary, a scalar of 0 or 1.
    """
    centred = features - features.mean(0)
    deviation = centred.square().mean().sqrt()
    # The mean of many equal values can differ from them by rounding, which would look like a deviation.
    varies = (features != features[:1]).any() & (deviation > 0)
    return centred / torch.where(varies, deviation, 1.0), varies.to(features)


@final
class Reconstruction(Loss):
    """Reconstruction: trains codes and a linear decoder to recover the features.

    No labels or neighbours are needed: items near each other get similar codes, because codes describe their position.
    Features are the input of the hasher, after augmentation. With a linear encoder this is the binary autoencoder,
    whose optimum without thresholds is PCA.
    Known weakness: it spends bits on the directions of largest variance, relevant or not.

    Shape:
        codes (n, l), features (n, d) → scalar, 1 if codes carry no information; 0 if all items are the same.

    Args:
        code_length: code length l.
        input_dim: feature dimension d.
        generator: CPU generator of the initial decoder.

    Raises:
        InvalidInputError: input_dim is below 1.

    References:
        Carreira-Perpiñán & Raziperchikolaei, "Hashing with binary autoencoders", CVPR 2015.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def __init__(self, code_length: int, input_dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        check_count(input_dim, "input_dim")
        self.decoder = random_linear(code_length, input_dim, generator)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared error of the decoded features, in units of their variance in the batch."""
        features, varies = standardise(batch.features.to(batch.codes.dtype))
        decoded: Tensor = self.decoder(batch.codes)
        return (decoded - features).square().mean() * varies
