"""OrthoHash: cosine similarity with orthogonal codewords (Hoe et al., NeurIPS 2021)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.class_codewords import class_codewords
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_number, check_positive

# Codes shorter than this are not stretched to unit length, which would make their slopes as large as they are small.
SHORTEST = 1e-3


def margin_cross_entropy(cosines: Tensor, indicators: Tensor, scale: float, margin: float) -> Tensor:
    """Cross-entropy of softmax(s (cos - m y)), whose margin an item's own classes must overcome.

    Args:
        cosines: floating (n, c).
        indicators: y, bool (n, c). An item of several classes is each of them in equal shares.
        scale: s.
        margin: m.

    Returns:
        (n,); 0 for an item without classes.
    """
    wanted = indicators.to(cosines)
    log_shares = (scale * (cosines - margin * wanted)).log_softmax(1)
    return -(log_shares * wanted).sum(1) / wanted.sum(1).clamp_min(1)


@final
class OrthoHash(Loss):
    """Cross-entropy over the classes of a code's cosine similarity with their codewords, fixed and near orthogonal.

    One term does what others need several for: a code that points to its codeword, whose entries are ±1, is of its
    class, has bits of one size, and lies half of all bits away from the other classes'. Known weakness: balanced bits
    are left to a batch normalisation of the projections; and codewords know nothing of how alike classes are, nor of
    the fitted codes that training starts from, which get worse before they get better: it wants a large rate and many
    epochs.

    Shape:
        codes (n, l), labels (n,) or (n, c) → scalar. Items without labels count nothing.

    Args:
        code_length: l.
        classes: c.
        generator: CPU generator of the codewords.
        codewords: "bernoulli" for fair coins, the authors' default; "hadamard" for rows of a Hadamard matrix where l is
            a power of two and c <= 2l, and else fair coins.
        scale: s; 8 as the authors take.
        margin: m; 0.2 as the authors take.

    Raises:
        InvalidInputError: settings out of range, or more classes than codewords.

    References:
        Hoe, Ng, Zhang, Chan, Song & Xiang, "One loss for all: deep hashing with a single cosine similarity based
        learning objective", NeurIPS 2021.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"labels"})

    directions: Tensor

    def __init__(
        self,
        code_length: int,
        classes: int,
        generator: torch.Generator | None = None,
        codewords: str = "bernoulli",
        scale: float = 8.0,
        margin: float = 0.2,
    ) -> None:
        super().__init__()
        check_positive(scale, "scale")
        check_number(margin, "margin")
        self.scale = scale
        self.margin = margin
        found = class_codewords(classes, code_length, codewords, generator)
        self.register_buffer("directions", found / code_length**0.5)

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean cross-entropy over the items with labels."""
        labels, codes = batch.labels, batch.codes
        assert labels is not None
        cosines = torch.nn.functional.normalize(codes, eps=SHORTEST) @ self.directions.to(codes.dtype).T
        indicators = labels
        if labels.ndim == 1:
            indicators = torch.nn.functional.one_hot(labels, len(self.directions))
        terms = margin_cross_entropy(cosines, indicators, self.scale, self.margin)
        return terms.sum() / (indicators > 0).any(1).sum().clamp_min(1)
