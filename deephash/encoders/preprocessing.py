"""How a pretrained network expects its images: size, crop, interpolation and normalisation."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from deephash.validation import InvalidInputError, check_choice, check_count

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Scaling, cropping and normalisation of images, as a network was trained with.

    Args:
        size: side in pixels of the network's input.
        mean: mean of red, green and blue in [0, 1].
        deviation: standard deviation of red, green and blue.
        interpolation: bilinear or bicubic, with antialiasing.
        crop: share of the side of the scaled image that the central crop keeps, above 0 and up to 1.

    Raises:
        InvalidInputError: a size below 1, an unknown interpolation, or a share out of range.
    """

    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    interpolation: str = "bilinear"
    crop: float = 1.0

    def __post_init__(self) -> None:
        check_count(self.size, "image_size")
        check_choice(self.interpolation, INTERPOLATIONS, "interpolation")
        if isinstance(self.crop, bool) or not isinstance(self.crop, int | float) or not 0 < self.crop <= 1:
            raise InvalidInputError(f"crop={self.crop!r}; expected the share of the side to keep, above 0 and up to 1.")

    @property
    def scaled_size(self) -> int:
        """Side in pixels to which an image is scaled before the central crop."""
        return math.floor(self.size / self.crop)

    def scale(self, images: Tensor) -> Tensor:
        """Scale the central square of images and crop it, (n, c, h, w) in [0, 1] → (n, c, size, size)."""
        side = min(images.shape[2:])
        images = crop_centre(images, side)
        if side != self.scaled_size:
            scaled = (self.scaled_size, self.scaled_size)
            images = functional.interpolate(images, scaled, mode=self.interpolation, antialias=True)
            images = images.clamp(0, 1)  # bicubic interpolation overshoots
        return crop_centre(images, self.size)


def crop_centre(images: Tensor, side: int) -> Tensor:
    """Return the central square of images, (n, c, h, w) → (n, c, side, side), as a view."""
    top, left = ((length - side) // 2 for length in images.shape[2:])
    return images[:, :, top : top + side, left : left + side]
