"""A weak and a strong augmentation: the two views of an item differ in kind."""

from collections.abc import Callable
from functools import partial
from typing import final

from torch import Tensor, nn

from deephash.augmentations.base import Augmentation
from deephash.augmentations.noise import Noise
from deephash.validation import InvalidInputError


@final
class WeakAndStrong(Augmentation):
    """Weak changes for the first view of an item, strong changes for the second.

    Losses that distil the codes of weak changes into those of strong ones, such as DHD, need a view that is easy to
    code and one that is hard to code. For losses of one view, only the weak changes count.

    Known weakness: strong changes that alter what an item means teach codes to ignore it.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        weak: function from `input_dim` to an augmentation, such as a partial of `Noise`; None for noise of 0.1 of each
            feature's standard deviation.
        strong: the same for the second view; None for noise of 0.5.

    Raises:
        InvalidInputError: weak or strong does not return an augmentation.

    References:
        Jang, Gu, Ko, Kang & Cho, "Deep hash distillation for image retrieval", ECCV 2022, Section 3.2; Sohn et al.,
        "FixMatch: simplifying semi-supervised learning with consistency and confidence", NeurIPS 2020.
    """

    def __init__(
        self,
        input_dim: int,
        weak: Callable[..., Augmentation] | None = None,
        strong: Callable[..., Augmentation] | None = None,
    ) -> None:
        super().__init__(input_dim)
        self.weak = build_part(input_dim, weak or partial(Noise, scale=0.1), "weak")
        self.strong = build_part(input_dim, strong or partial(Noise, scale=0.5), "strong")

    def change(self, features: Tensor) -> Tensor:
        """Return features with weak changes."""
        return self.weak.change(features)

    def change_second(self, features: Tensor) -> Tensor:
        """Return features with strong changes."""
        return self.strong.change(features)


def build_part(input_dim: int, function: Callable[..., Augmentation], name: str) -> Augmentation:
    """Build an augmentation for features of a dimension.

    Raises:
        InvalidInputError: the function does not return an augmentation.
    """
    # Modules are callable too, with features.
    is_function = callable(function) and not isinstance(function, nn.Module)
    built = function(input_dim=input_dim) if is_function else None
    if not isinstance(built, Augmentation):
        raise InvalidInputError(
            f"{name}={function!r}; expected a function from input_dim to an augmentation: in YAML, an augmentation's "
            "_target_ with _partial_: true."
        )
    return built
