"""Deep polarised network (Fan, Ng, Ju, Zhang, Liu, Chan & Yang, IJCAI 2020)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords, random_codeword, target_codewords
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_positive


@final
class DPN(Loss):
    """A hinge for each bit: on the side that its class's random codeword has, and by a margin, max(0, m - c u).

    It bounds the Hamming distance between items of a class from above, and once a bit is far enough on its side it is
    left alone, unlike in CSQ's cross-entropy. Of several classes the codeword is their majority.
    Known weakness: random codewords may be near each other in short codes, and know nothing of how alike classes are,
    nor of the fitted codes that training starts from, which get worse before they get better: it wants a large rate and
    many epochs. The paper's variant that moves codewords with the codes (DPN-A) is not here. Of quantisers ranked by
    Manhattan distance a codeword may be no code at all.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar, a mean over bits. Items without labels count nothing.

    Args:
        code_length: l.
        classes: c.
        generator: CPU generator of the codewords, and of how ties of a majority are broken, once for each bit.
        margin: m; 1 asks for hard bits and no more, as in the paper's experiments.

    Raises:
        InvalidInputError: a margin not above 0, or more classes than codewords.

    References:
        Fan, Ng, Ju, Zhang, Liu, Chan & Yang, "Deep polarized network for supervised learning of accurate binary
        hashing codes", IJCAI 2020.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

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
        known = targets != 0
        hinges = (self.margin - targets * batch.codes).clamp_min(0)
        return (hinges * known).sum() / known.sum().clamp_min(1)
