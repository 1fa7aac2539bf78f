"""Another loss, summed over prefixes of the codes (Kusupati et al., NeurIPS 2022)."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_length, check_positive, is_whole

# The shortest prefix by default, the shortest code of most papers on deep hashing.
SHORTEST = 16


def double_up_to(code_length: int) -> list[int]:
    """Return 16, 32, 64 and so on below the code length, and the code length itself."""
    prefixes = [SHORTEST << power for power in range(code_length.bit_length()) if SHORTEST << power < code_length]
    return [*prefixes, code_length]


def check_prefixes(prefixes: Sequence[int], code_length: int) -> None:
    """Raise an error for prefixes that are not increasing numbers of bits, the last of which is the code length.

    Raises:
        InvalidInputError: the message says what is wrong with the prefixes.
    """
    given = f"prefixes={list(prefixes)}"
    if not all(is_whole(prefix) and prefix >= 1 for prefix in prefixes):
        raise InvalidInputError(f"{given}; expected whole numbers of bits, at least 1.")
    if any(prefix > code_length for prefix in prefixes):
        raise InvalidInputError(f"{given}; {max(prefixes)} exceeds the {code_length} bits of the codes: leave it out.")
    if any(later <= earlier for earlier, later in pairwise(prefixes)):
        raise InvalidInputError(f"{given}; expected increasing numbers, each of them once.")
    if code_length not in prefixes:
        raise InvalidInputError(
            f"{given} trains no code of all {code_length} bits; add {code_length} as the last prefix."
        )


def check_cut(longest: Loss, shortest: Loss, code_length: int) -> None:
    """Raise an error if a loss of shorter codes has weights for the whole code, as with a size given as a setting.

    Args:
        longest: loss of the whole code.
        shortest: loss of the same kind of fewer bits.
        code_length: length of the whole code.

    Raises:
        InvalidInputError: a matrix of weights has the same shape in both and a side of the code length.
    """
    shapes = {name: weight.shape for name, weight in shortest.state_dict().items()}
    for name, weight in longest.state_dict().items():
        if weight.ndim > 1 and code_length in weight.shape and shapes.get(name) == weight.shape:
            raise InvalidInputError(
                f"{type(longest).__name__} cannot be nested: its weights {name} have the shape {tuple(weight.shape)} "
                "for every prefix; choose a loss whose weights follow the code length, or one without weights."
            )


def continue_targets(longer: Loss, shorter: Loss) -> None:
    """Give the first bits of a loss's fixed targets the signs of those of a loss of shorter codes, in place.

    Args:
        longer: loss of l bits.
        shorter: loss of the same kind of fewer bits.
    """
    for name in longer.targets:
        whole, first = longer.get_buffer(name), shorter.get_buffer(name)
        whole[..., : first.shape[-1]].copysign_(first)


@final
class Nested(Loss):
    """Nested codes: sums another loss over prefixes of the codes, so that the first bits of a code are a good code.

    The loss is Σ_p w_p L_p, where L_p sees the first p bits of each code, the first p projections and the first p
    thresholds. A code can then be cut to any p of the prefixes without another training. As in Matryoshka
    representation learning, each prefix has a loss of its own, with its own weights, such as a classifier, and with the
    defaults of its length, such as the margin of DTSH. The fixed targets of CSQ, DPN, OrthoHash and MDSHC are shared:
    the centre of a class begins with its centre of the next shorter prefix, because independent centres would pull a
    bit to both sides.
    Known weakness: all prefixes learn from the same bits, so the whole code is usually a little worse than one that is
    trained alone, and a step costs as many losses as there are prefixes. In a mean over bits, a first bit also counts
    more than a last one. Shared centres keep the distances of Hadamard rows for at most l classes, but not always the
    minimal distance of MDSHC.

    Shape:
        codes (n, l), projections (n, l), and what the inner loss reads → scalar. The quantiser has one bit per
        projection.

    Args:
        code_length: code length l.
        of: function from a number of bits to the loss of a prefix of this length, such as
            `lambda bits: CSQ(bits, classes=10)`. It is called once for each prefix, the shortest first.
        prefixes: increasing numbers of bits, the last of which is l; None for 16, 32, 64 and so on, and l. A multiple
            of 8 cuts packed codes between bytes.
        weights: w of each prefix, above 0; None for 1, as in the paper.

    Raises:
        InvalidInputError: prefixes or weights are invalid, or the inner loss cannot have a prefix's length, for example
            because there are more classes than codewords.

    References:
        Kusupati, Bhatt, Rege, Wallingford, Sinha, Ramanujan, Howard-Snyder, Chen, Kakade, Jain & Farhadi, "Matryoshka
        representation learning", NeurIPS 2022; their variant with one classifier for all prefixes (MRL-E) is not
        implemented. He, Zhang, Li, Huang, Wu & Chen, "Nested hash layer: a plug-and-play module for multiple-length
        hash code learning", arXiv:2412.08922, 2024, for losses of deep hashing; their dynamic weights and
        self-distillation are not implemented.
    """

    def __init__(
        self,
        code_length: int,
        of: Callable[[int], Loss],
        prefixes: Sequence[int] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_length(code_length, "code_length")
        for name, values in (("prefixes", prefixes), ("weights", weights)):
            if values is not None and (isinstance(values, str) or not isinstance(values, Sequence)):
                raise InvalidInputError(f"{name}={values!r}; expected a list, such as {name}=[1, 2].")
        prefixes = double_up_to(code_length) if prefixes is None else list(prefixes)
        check_prefixes(prefixes, code_length)
        weights = [1.0] * len(prefixes) if weights is None else list(weights)
        for weight in weights:
            check_positive(weight, "weights")
        if len(weights) != len(prefixes):
            raise InvalidInputError(
                f"weights={weights}; expected {len(prefixes)} numbers, one for each of the prefixes {prefixes}."
            )
        self.prefixes, self.weights = tuple(prefixes), tuple(map(float, weights))
        self.losses = nn.ModuleList()
        for bits in prefixes:
            try:
                loss = of(bits)
            except InvalidInputError as error:
                raise InvalidInputError(f"prefixes={prefixes}: a prefix of {bits} bits: {error}") from error
            if len(self.losses):
                continue_targets(loss, self.losses[-1])  # type: ignore[arg-type]
            self.losses.append(loss)
        if len(prefixes) > 1:
            check_cut(loss, self.losses[0], code_length)  # type: ignore[arg-type]
        # Those of the inner loss; a class with a fixed inner loss declares them once for all.
        self.requires = loss.requires  # type: ignore[misc]
        self.stops_gradients = loss.stops_gradients  # type: ignore[misc]

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Weighted sum of the losses of all prefixes."""
        terms = [
            weight * loss(batch.first_bits(bits))
            for bits, weight, loss in zip(self.prefixes, self.weights, self.losses, strict=True)
        ]
        return torch.stack(terms).sum()
