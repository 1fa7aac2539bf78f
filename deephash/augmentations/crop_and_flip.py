"""Random shifts, mirroring and cut-outs of images."""

from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.functional.flat_images import image_shape
from deephash.validation import InvalidInputError, check_fraction, is_whole


def mirror_into(places: Tensor, size: int) -> Tensor:
    """Mirror places outside 0 to size - 1 at both ends, without repeating the end: -1 → 1, size → size - 2.

    Args:
        places: int64, from 1 - size to 2 size - 2.
        size: number of pixels of the line.
    """
    return (size - 1) - ((size - 1) - places.abs()).abs()


@final
class CropAndFlip(Augmentation):
    """Random shifts of flat images by a few pixels, mirroring of half of them, and optional cut-outs.

    Pixels that enter from outside are mirrored at the border. This equals padding an image with its mirror image and
    cropping it at random.

    Known weakness: mirroring changes the meaning of digits, letters and signs; set flip to 0 there.

    Shape:
        flat images (n, h · w · c) → (n, h · w · c).

    Args:
        input_dim: number of values of an image, h · w · c.
        shift: maximum shift along each axis in pixels. The default of 2 suits short training at 32 × 32; He et al.
            (2016) use 4.
        flip: probability of mirroring left and right, by default 0.5.
        cutout: side of a square, at a random place, that is set to the image's mean colour; 0 for none. The paper
            uses 16 at 32 × 32.
        channels: number of channels; None for 3 or 1, whichever fits the number of values.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.

    Raises:
        InvalidInputError: the number of values does not match such images, or a setting is out of range.

    References:
        He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016, §4.2; DeVries & Taylor,
        "Improved regularization of convolutional neural networks with cutout", arXiv:1708.04552, 2017.
    """

    needs_images = True

    def __init__(
        self,
        input_dim: int,
        shift: int = 2,
        flip: float = 0.5,
        cutout: int = 0,
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(input_dim)
        check_fraction(flip, "flip")
        self.channels, self.height, self.width = image_shape(input_dim, channels, height, width)
        for name, value in (("shift", shift), ("cutout", cutout)):
            most = min(self.height, self.width) - (name == "shift")
            if not is_whole(value) or not 0 <= value <= most:
                raise InvalidInputError(
                    f"{name}={value!r}; expected a whole number from 0 to {most}, for images of {self.height} × "
                    f"{self.width}."
                )
        self.shift = shift
        self.flip = flip
        self.cutout = cutout

    def change(self, features: Tensor) -> Tensor:
        """Return shifted and mirrored images."""
        n, device = len(features), features.device
        down, right = torch.randint(-self.shift, self.shift + 1, (2, n, 1), device=device)
        rows = mirror_into(torch.arange(self.height, device=device) + down, self.height)
        columns = mirror_into(torch.arange(self.width, device=device) + right, self.width)
        flipped = torch.rand(n, 1, device=device) < self.flip
        columns = torch.where(flipped, self.width - 1 - columns, columns)
        count = self.height * self.width
        pixels = features.reshape(n, count, self.channels)
        places = (rows[:, :, None] * self.width + columns[:, None, :]).reshape(n, count, 1)
        moved = pixels.gather(1, places.expand(-1, -1, self.channels))
        if self.cutout:
            moved = torch.where(self._draw_cuts(n, device)[:, :, None], pixels.mean(1, keepdim=True), moved)
        return moved.reshape(n, self.input_dim)

    def _draw_cuts(self, n: int, device: torch.device) -> Tensor:
        """Draw the squares, bool (n, h · w). A centre is any pixel, so part of a square may lie outside."""
        inside = []
        for size in (self.height, self.width):
            first = torch.randint(size, (n, 1), device=device) - self.cutout // 2
            places = torch.arange(size, device=device)
            inside.append((places >= first) & (places < first + self.cutout))
        return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)
