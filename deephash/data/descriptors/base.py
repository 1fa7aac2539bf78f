"""The base class of descriptors: images → features (n, d)."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from torch import Tensor

from deephash.conversion import PlainArguments
from deephash.validation import InvalidInputError


class Descriptor(PlainArguments, ABC):
    """A fixed map from images to feature vectors, computed independently for each image."""

    version: ClassVar[int] = 1
    """Increased whenever features of the same images change, so that cached ones are not used."""

    costly: ClassVar[bool] = True
    """Whether features are slow to compute, and therefore cached."""

    interpolation: str = "bilinear"
    """How loaders scale images: bilinear or bicubic."""

    image_size: int | None
    """Side in pixels to which loaders scale and crop images; None keeps their size."""

    resize: int | None = None
    """Length to which loaders scale the shorter side before they crop; None for `image_size`."""

    @abstractmethod
    def describe(self, images: np.ndarray) -> Tensor:
        """Compute features of images.

        Args:
            images: uint8 (n, h, w) or (n, h, w, 3).

        Returns:
            float32 (n, d) on the CPU.

        Raises:
            InvalidInputError: not images, or images of an unsupported size.
        """

    @abstractmethod
    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, as JSON values for the cache's key."""

    def contents(self) -> str:
        """Return the SHA-256, in hex, of the files that this reads, such as weights; empty if it reads none."""
        return ""


def check_images(images: np.ndarray) -> None:
    """Raise an error for a value that is not a stack of 8-bit images.

    Raises:
        InvalidInputError: wrong type, dtype or shape.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise InvalidInputError(f"images are {kind}; expected a NumPy array of dtype uint8.")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3) or 0 in images.shape[1:]:
        raise InvalidInputError(
            f"images have shape {images.shape}; expected (n, height, width) or (n, height, width, 3)."
        )
