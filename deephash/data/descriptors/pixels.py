"""Pixels as features."""

from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor, check_images
from deephash.validation import check_positive


@final
class Pixels(Descriptor):
    """Brightness in [0, 1] of every pixel and channel, row by row: the baseline descriptor.

    Args:
        image_size: side in pixels to which loaders scale and crop images; None keeps their size.

    Raises:
        InvalidInputError: an image size below 1.
    """

    costly: ClassVar[bool] = False

    def __init__(self, image_size: int | None = None) -> None:
        if image_size is not None:
            check_positive(image_size, "image_size")
        self.image_size = image_size

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on."""
        return {"descriptor": "pixels", "image_size": self.image_size}

    def describe(self, images: np.ndarray) -> Tensor:
        """Return the pixels of images row by row, each as (r, g, b, r, g, b, ...).

        Args:
            images: uint8 (n, h, w) or (n, h, w, 3).

        Returns:
            float32 (n, h · w · channels).
        """
        check_images(images)
        return torch.from_numpy(np.divide(images.reshape(len(images), -1), np.float32(255)))
