"""A small convolutional network for small images, which a CPU trains in minutes."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from deephash.encoders.image_encoder import ImageEncoder
from deephash.functional.batch_statistics import SAMPLE, measure_batch_statistics, random_batches
from deephash.functional.flat_images import image_shape
from deephash.functional.layers import check_widths
from deephash.validation import InvalidInputError, check_count

# Number of images whose patches set the first layer, and number of images per block for statistics.
WHITENING_IMAGES = 5000
BATCH = 256
PATCH = 2
# Added to the variance of each direction, as a share of the mean variance, so that directions with almost no variance
# are not amplified.
RIDGE = 0.01


def whitening_filters(images: Tensor) -> Tensor:
    """Compute filters of 2 × 2 pixels along the principal directions of patches, each with both signs.

    Outputs are uncorrelated and of nearly equal variance; ReLU-like functions behind them keep both halves.

    Args:
        images: floating (n, c, h, w), of mean 0 in each channel.

    Returns:
        float64 (8c, c, 2, 2).

    Raises:
        InvalidInputError: the images have no contrast.
    """
    size = images.shape[1] * PATCH**2
    covariance = torch.zeros(size, size, dtype=torch.float64, device=images.device)
    patches = 0
    for block in torch.split(images, BATCH):
        rows = block.unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
        covariance += (rows.T @ rows).double()
        patches += len(rows)
    variances, directions = torch.linalg.eigh(covariance.cpu() / patches)
    mean = variances.mean()
    if not mean > 0:
        raise InvalidInputError("all training images are one plain colour; give images that vary.")
    filters = (directions / (variances.clamp_min(0) + RIDGE * mean).sqrt()).T.reshape(size, -1, PATCH, PATCH)
    return torch.cat([filters, -filters])


def build_block(inputs: int, outputs: int) -> nn.Sequential:
    """Build a block that halves the side: convolution, 2 × 2 maximum, normalisation, GELU; then without maximum."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
    )


@final
class Convolutional(ImageEncoder):
    """Whitened 2 × 2 patches, blocks of two 3 × 3 convolutions that halve the side, and a global maximum.

    A simple form of the small networks that reach 94 % on CIFAR-10 within seconds on a GPU. At the default widths, an
    epoch of 50,000 images of 32 × 32 takes about two minutes on one CPU core. The first layer is set from the training
    images' patches and stays fixed. The others have random initial weights, and normalisation statistics measured on
    training images.

    Known weakness: in training, normalisation makes an item's code depend on the other items of its batch. Several
    processes normalise their shares separately unless `trainer.sync_batchnorm` is set. Before training, the network is
    random and no better than pixels.

    Shape:
        flat images (n, h · w · c) → (n, e), for the last width e.

    Args:
        input_dim: values of an image, h · w · c.
        widths: channels of each block, the last of which is e; [32, 128, 128] for three blocks.
        channels: channels of the images; None chooses 3 or 1, depending on the number of values.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.

    Raises:
        InvalidInputError: the values do not form such images, the images are too small for the blocks, or a width is
            below 1; in `fit`, there are fewer than two images, or all have one colour.

    References:
        Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, 2024; Page, "How to train your
        ResNet", 2019, for the whitened patches; Ioffe & Szegedy, "Batch normalization", ICML 2015; Hendrycks & Gimpel,
        "Gaussian error linear units", arXiv:1606.08415, 2016.
    """

    mean: Tensor
    filters: Tensor

    def __init__(
        self,
        input_dim: int,
        widths: Iterable[int] = (32, 128, 128),
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        check_count(input_dim, "input_dim")
        listed = check_widths(widths, "widths")
        shape = image_shape(input_dim, channels, height, width)
        least = 2 ** len(listed) + PATCH - 1
        if min(shape[1:]) < least:
            raise InvalidInputError(
                f"images of {shape[1]} × {shape[2]} are too small for {len(listed)} blocks, each of which halves the "
                f"side; give images of {least} × {least} at least, or fewer widths."
            )
        super().__init__(input_dim, listed[-1], shape)
        self.widths = listed
        first = 2 * self.channels * PATCH**2
        self.register_buffer("mean", torch.zeros(self.channels))
        self.register_buffer("filters", torch.zeros(first, self.channels, PATCH, PATCH))
        self.blocks = nn.Sequential(*(build_block(inputs, outputs) for inputs, outputs in pairwise((first, *listed))))

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the output of the last block, its maximum over the image, (n, c, h, w) → (n, e)."""
        centred = images.to(self.mean.dtype) - self.mean[:, None, None]
        maps: Tensor = self.blocks(functional.gelu(functional.conv2d(centred, self.filters)))
        return maps.amax((2, 3))

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Set the first layer from patches, draw the others, and measure the normalisation statistics.

        Raises:
            InvalidInputError: there are fewer than two images, or all have one colour.
        """
        if len(features) < 2:
            raise InvalidInputError(f"training images are {len(features)}; a normalisation takes at least 2.")
        rows = torch.randperm(len(features), generator=generator)[:WHITENING_IMAGES]
        images = self.images(features[rows.to(features.device)]).to(self.mean.dtype)
        self.mean.copy_(images.mean((0, 2, 3)))
        self.filters.copy_(whitening_filters(images - self.mean[:, None, None]))
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Conv2d):
                # Uniform with variance 1 / (3 fan-in), as torch initialises: normalisation cancels the size of weights,
                # so it only affects how far a step of a given rate turns them.
                drawn = torch.empty(layer.weight.shape, dtype=torch.float64)
                layer.weight.copy_(nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator))
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        batches = random_batches(features, SAMPLE, BATCH, generator)
        measure_batch_statistics(self, batches)
        return self
