"""The base class of image encoders: reshaping of flat rows, and evaluation in blocks."""

from abc import abstractmethod

import torch
from torch import Tensor

from deephash.encoders.base import Encoder
from deephash.functional.flat_images import as_images

# Images per forward pass outside of training, so that feature maps fit into the caches and thousands of images do not
# need gigabytes.
BLOCK_IMAGES = 256


class ImageEncoder(Encoder):
    """An encoder of flat images, pixel after pixel: (r, g, b, r, g, b, ...), row by row.

    Subclasses implement `encode_images` and `fit`.

    Shape:
        features (n, h · w · c) → features (n, e).

    Args:
        input_dim: number of values of an image.
        output_dim: output dimension e.
        shape: channels c, height h and width w of the images.
    """

    def __init__(self, input_dim: int, output_dim: int, shape: tuple[int, int, int]) -> None:
        super().__init__(input_dim, output_dim)
        self.channels, self.height, self.width = shape

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (n, c, h, w) of any dtype to (n, e), differentiably."""

    def forward(self, features: Tensor) -> Tensor:
        """Encode flat images, (n, d) → (n, e)."""
        images = self.images(features)
        if self.training or torch.is_grad_enabled():
            return self.encode_images(images)
        return torch.cat([self.encode_images(block) for block in torch.split(images, BLOCK_IMAGES)])

    def images(self, features: Tensor) -> Tensor:
        """Reshape flat rows to images, (n, d) → (n, c, h, w)."""
        return as_images(features, (self.channels, self.height, self.width))
