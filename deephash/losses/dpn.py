"""Deep polarised network (Fan, Ng, Ju, Zhang & Chan, IJCAI 2020)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords, random_codeword, target_codewords
from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


@final
class DPN(Loss):
    """Deep polarised network: moves bits to the side of a random codeword per class, with the hinge max(0, m - c u).

    Here u is a relaxed bit and c = ±1 its target. The loss bounds the Hamming distance between items of a class from
    above. Unlike the cross-entropy of CSQ, it does not change a bit that is far enough on its side. The codeword of an
    item with several classes is their majority.
    Known weakness: random codewords of short codes may be near each other, and they ignore which classes are similar.
    They also ignore the fitted codes that training starts from, so codes become worse before they improve, and training
    needs a large learning rate and many epochs. The variant of the paper that adapts the codewords (DPN-A) is not
    implemented. For quantisers ranked by Manhattan distance, a codeword may not be a valid code.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar, a mean over bits. Items without labels do not count.

    Args:
        code_length: code length l.
        classes: number of classes c.
        generator: CPU generator of the codewords, and of the fixed bits that break ties of a majority.
        margin: m; 1 requires hard bits, as in the paper's experiments.

    Raises:
        InvalidInputError: margin is not above 0, or there are more classes than codewords.

    References:
        Fan, Ng, Ju, Zhang & Chan, "Deep polarized network for supervised learning of accurate binary
        hashing codes", IJCAI 2020.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})
    targets: ClassVar[tuple[str, ...]] = ("codewords", "ties")

    codewords: Tensor
    ties: Tensor

    def __init__(
        self, code_length: int, classes: int, generator: torch.Generator | None = None, margin: float = 1.0
    ) -> None:
        super().__init__()
        check_positive(margin, "margin")
        self.margin = margin
        self.register_buffer("codewords", class_codewords(classes, code_length, "bernoulli", generator))
        self.register_buffer("ties", random_codeword(code_length, generator))

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean hinge over bits."""
        assert batch.labels is not None
        targets = target_codewords(batch.labels, self.codewords, self.ties).to(batch.codes.dtype)
        return masked_mean((self.margin - targets * batch.codes).clamp_min(0), targets != 0)
