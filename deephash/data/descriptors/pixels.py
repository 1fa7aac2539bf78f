"""Pixels as features."""

from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor, check_images
from deephash.encoders.preprocessing import INTERPOLATIONS
from deephash.validation import InvalidInputError, check_choice, check_count, check_positive


@final
class Pixels(Descriptor):
    """Brightness in [0, 1] of every pixel and channel, row by row: the baseline descriptor.

    Args:
        image_size: side in pixels to which loaders scale and crop images; None keeps their size.
        resize: length in pixels to which loaders scale the shorter side before they crop, at least image_size;
            None for image_size. Deep hashing often crops 224 of 256 pixels.
        interpolation: how loaders scale images, bilinear or bicubic.

    Raises:
        InvalidInputError: an image size below 1, a resize below the image size, or an unknown interpolation.
    """

    costly: ClassVar[bool] = False

    def __init__(
        self, image_size: int | None = None, resize: int | None = None, interpolation: str = "bilinear"
    ) -> None:
        if image_size is not None:
            check_positive(image_size, "image_size")
        if resize is not None:
            check_count(resize, "resize")
            if image_size is None or resize < image_size:
                raise InvalidInputError(
                    f"resize={resize} with image_size={image_size}; images are scaled to resize and cropped to "
                    "image_size, so expected image_size of at most resize."
                )
        check_choice(interpolation, INTERPOLATIONS, "interpolation")
        self.image_size = image_size
        self.resize = resize
        self.interpolation = interpolation

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on."""
        resized = {} if self.resize is None else {"resize": self.resize}
        bicubic = {} if self.interpolation == "bilinear" else {"interpolation": self.interpolation}
        return {"descriptor": "pixels", "image_size": self.image_size, **resized, **bicubic}

    def describe(self, images: np.ndarray) -> Tensor:
        """Return the pixels of images row by row, each as (r, g, b, r, g, b, ...).

        Args:
            images: uint8 (n, h, w) or (n, h, w, 3).

        Returns:
            float32 (n, h · w · channels).
        """
        check_images(images)
        return torch.from_numpy(np.divide(images.reshape(len(images), -1), np.float32(255)))
