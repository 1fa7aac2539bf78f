"""Central similarity quantisation (Yuan et al., CVPR 2020)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords, random_codeword, target_codewords
from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_positive


def centre_cross_entropy(codes: Tensor, centres: Tensor, least_probability: float) -> Tensor:
    """Binary cross-entropy of each bit with the bit of its centre.

    The probability that a bit u is 1 increases from ε at u = -1 to 1 - ε at u = 1, so that it agrees with c = ±1 with
    probability (1 + (1 - 2ε) c u) / 2. The paper has ε = 0, with an infinite loss for a wrong hard bit.

    Args:
        codes: floating (n, l) in [-1, 1].
        centres: (n, l), ±1.
        least_probability: ε.

    Returns:
        (n, l).
    """
    return math.log(2) - torch.log1p((1 - 2 * least_probability) * centres * codes)


def log_cosh(values: Tensor) -> Tensor:
    """Logarithm of cosh x without overflow: near |x| - log 2 for large |x|, and near x²/2 for small x."""
    size = values.abs()
    return size + torch.nn.functional.softplus(-2 * size) - math.log(2)


@final
class CSQ(Loss):
    """Central similarity quantisation: pulls codes to fixed class centres, which are far from each other.

    Each item has the centre of its class as a target, so no pairs are needed, and frequent and rare classes are
    separated equally. Centres are rows of a Hadamard matrix, or random codewords if no such matrix fits. The centre of
    an item with several classes is their majority, bit by bit.
    Known weakness: centres ignore which classes are similar. They also ignore the fitted codes that training starts
    from, so codes become worse before they improve, and training needs a large learning rate and many epochs. For
    quantisers ranked by Manhattan distance, a centre may not be a valid code.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar, a mean over bits. Items without labels do not count.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the centres, and of the fixed bits that break ties of a majority.
        quantization_weight: λ of log cosh(|u| - 1), which is 0 for hard bits; 0.0001 as in public code.
        least_probability: ε in (0, 1/2), the probability that a hard bit has the other value; it bounds the slope at
            hard bits, such as those of `straight_through`.

    Raises:
        InvalidInputError: settings are out of range, or there are more classes than codewords.

    References:
        Yuan, Wang, Zhang, Tay, Jie, Liu & Feng, "Central similarity quantization for efficient image and video
        retrieval", CVPR 2020.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    targets: ClassVar[tuple[str, ...]] = ("centres", "ties")

    centres: Tensor
    ties: Tensor

    def __init__(
        self,
        code_length: int,
        classes: int,
        generator: torch.Generator | None = None,
        quantization_weight: float = 0.0001,
        least_probability: float = 0.01,
    ) -> None:
        super().__init__()
        check_weight(quantization_weight, "quantization_weight")
        check_positive(least_probability, "least_probability")
        if least_probability >= 0.5:
            raise InvalidInputError(f"least_probability={least_probability!r}; expected a number below 0.5.")
        self.quantization_weight = quantization_weight
        self.least_probability = least_probability
        self.register_buffer("centres", class_codewords(classes, code_length, "hadamard", generator))
        self.register_buffer("ties", random_codeword(code_length, generator))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Cross-entropy with the centres, plus λ times the distance from hard bits."""
        assert batch.labels is not None
        codes = batch.codes
        centres = target_codewords(batch.labels, self.centres, self.ties).to(codes.dtype)
        to_centre = centre_cross_entropy(codes, centres, self.least_probability)
        to_corner = log_cosh(codes.abs() - 1)
        return masked_mean(to_centre + self.quantization_weight * to_corner, centres != 0)
