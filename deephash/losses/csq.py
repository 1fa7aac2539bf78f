"""Central similarity quantisation (Yuan et al., CVPR 2020)."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords, random_codeword, target_codewords
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number, check_positive


def centre_cross_entropy(codes: Tensor, centres: Tensor, least_probability: float) -> Tensor:
    """Binary cross-entropy of each bit with its centre's.

    A bit u is 1 with a probability from ε at u = -1 to 1 - ε at u = 1, so that it agrees with c = ±1 with probability
    (1 + (1 - 2ε) c u) / 2; the paper's is that of ε = 0, infinite for a hard bit that is wrong.

    Args:
        codes: floating (n, l) in [-1, 1].
        centres: (n, l), ±1.
        least_probability: ε.

    Returns:
        (n, l).
    """
    return math.log(2) - torch.log1p((1 - 2 * least_probability) * centres * codes)


def log_cosh(values: Tensor) -> Tensor:
    """Logarithm of cosh x, near |x| for large and x²/2 for small x, without overflow."""
    size = values.abs()
    return size + torch.nn.functional.softplus(-2 * size) - math.log(2)


@final
class CSQ(Loss):
    """Draws codes to the centre of their class, a codeword fixed beforehand; centres differ in about half their bits.

    Each item learns by itself where its class goes, so no pairs are drawn and classes of any frequency are parted
    alike. Centres are rows of a Hadamard matrix, or fair coins where there is none. Of several classes the centre is
    their majority, bit by bit. Known weakness: centres know nothing of how alike classes are, nor of the fitted codes
    that training starts from, which get worse before they get better: it wants a large rate and many epochs. Of
    quantisers ranked by Manhattan distance a centre may be no code at all.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar, a mean over bits. Items without labels count nothing.

    Args:
        code_length: l.
        classes: c.
        generator: CPU generator of the centres, and of how ties of a majority are broken, once for each bit.
        quantization_weight: λ of log cosh(|u| - 1), which is 0 for hard bits; 0.0001 as in public code.
        least_probability: ε in (0, 1/2), what a bit of u = ±1 leaves to the other value; it bounds the slope at hard
            bits, which those of `straight_through` are.

    Raises:
        InvalidInputError: settings out of range, or more classes than codewords.

    References:
        Yuan, Wang, Zhang, Tay, Jie, Liu & Feng, "Central similarity quantization for efficient image and video
        retrieval", CVPR 2020.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

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
        check_number(quantization_weight, "quantization_weight")
        check_positive(least_probability, "least_probability")
        if quantization_weight < 0:
            raise InvalidInputError(f"quantization_weight={quantization_weight!r}; expected a number of at least 0.")
        if least_probability >= 0.5:
            raise InvalidInputError(f"least_probability={least_probability!r}; expected a number below 0.5.")
        self.quantization_weight = quantization_weight
        self.least_probability = least_probability
        self.register_buffer("centres", class_codewords(classes, code_length, "hadamard", generator))
        self.register_buffer("ties", random_codeword(code_length, generator))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Cross-entropy with the centres, and λ times the distance from hard bits."""
        assert batch.labels is not None
        codes = batch.codes
        centres = target_codewords(batch.labels, self.centres, self.ties).to(codes.dtype)
        to_centre = centre_cross_entropy(codes, centres, self.least_probability)
        to_corner = log_cosh(codes.abs() - 1)
        known = centres != 0
        return ((to_centre + self.quantization_weight * to_corner) * known).sum() / known.sum().clamp_min(1)
