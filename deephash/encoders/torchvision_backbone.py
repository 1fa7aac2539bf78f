"""Any classification network of torchvision, without its classifier."""

import logging
from collections.abc import Mapping
from typing import Any, Self, final

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from deephash.encoders.image_encoder import ImageEncoder
from deephash.encoders.network_weights import FILES, fetch_weights, load_weights
from deephash.functional.batch_statistics import measure_batch_statistics, random_batches
from deephash.functional.flat_images import image_shape
from deephash.io.path_settings import PathOrName
from deephash.validation import InvalidInputError, check_choice, check_count

log = logging.getLogger(__name__)

# Networks without a single final linear map: two have side branches, and two end in a convolution.
UNSUPPORTED = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
# Mean and standard deviation of red, green and blue in [0, 1] on ImageNet, for all of torchvision's weights.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
# Number of images, and images per batch, on which the normalisation statistics of a network with random weights are
# measured. A ResNet-50 needs a minute on a CPU for 256 images of 224 × 224 pixels.
SAMPLE, BATCH = 256, 32


def list_networks() -> list[str]:
    """Return the names of torchvision's classification networks that end in one linear map."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if name not in UNSUPPORTED]


def build_headless(network: str, seed: int) -> tuple[nn.Module, int, str]:
    """Build a network with random weights and the identity in place of its classifier, the last linear map.

    Torchvision draws from torch's default generator, which is seeded here and restored afterwards.

    Args:
        network: one of `list_networks`.
        seed: seed of the weights.

    Returns:
        The network, its output dimension, and the name of the classifier.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        backbone: nn.Module = torchvision.models.get_model(network, weights=None)
    name, head = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Linear)][-1]
    backbone.set_submodule(name, nn.Identity())
    return backbone, head.in_features, name


def check_network(network: str, weights: str | None) -> None:
    """Raise an error if torchvision has no such network or weights.

    Raises:
        InvalidInputError: the message lists the valid names.
    """
    check_choice(network, list_networks(), "network")
    if weights is not None and not weights.endswith(FILES):
        check_choice(weights, torchvision.models.get_model_weights(network).__members__, "weights")


@final
class TorchvisionBackbone(ImageEncoder):
    """The input of the classifier of a torchvision network, for images of any size.

    Images are scaled to the input size of the network and normalised as for its ImageNet weights. `fit`, not the
    constructor, sets the weights, so that a stored hasher, which contains its weights, needs no download and no file.

    Known weakness: images much smaller than the input size leave most layers without information but cost as much as
    large ones; for 32 × 32 pixels use `Convolutional`, at a thirtieth of the cost of a ResNet-18. The networks are
    large: train them on a GPU, or keep them frozen.

    Shape:
        flat images (n, h · w · c), in [0, 1] → (n, e), for the width e of the network's penultimate layer.

    Args:
        input_dim: values of an image, h · w · c.
        network: torchvision's name of a network, such as resnet18, alexnet, vit_b_16 or efficientnet_b0.
        weights: torchvision's name of weights to download, such as IMAGENET1K_V1, or DEFAULT for the best; a file of
            the network's weights, .safetensors, .pth or .pt; or None for random weights.
        frozen: whether training leaves the weights and the normalisation statistics unchanged.
        image_size: side to which images are scaled; 224, as for most of the weights.
        channels: channels of the images, 3 or 1; None to infer them from `input_dim`.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.

    Raises:
        InvalidInputError: an unknown network or weights, an invalid image shape, or a size that the network does not
            support; in `fit`, a missing or damaged file, weights of another network, or values outside [0, 1].

    References:
        He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016;
        Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, 2014;
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        input_dim: int,
        network: str,
        weights: PathOrName | None = None,
        frozen: bool = False,
        image_size: int = 224,
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        check_count(input_dim, "input_dim")
        check_count(image_size, "image_size")
        check_network(network, weights)
        shape = image_shape(input_dim, channels, height, width)
        if shape[0] not in (1, 3):
            raise InvalidInputError(f"channels={shape[0]}; {network} accepts 3 channels, or 1 of grey images.")
        backbone, output_dim, head = build_headless(network, 0)
        required = getattr(backbone, "image_size", image_size)  # only vision transformers have it
        if required != image_size:
            raise InvalidInputError(f"image_size={image_size}; {network} accepts only {required} × {required} pixels.")
        super().__init__(input_dim, output_dim, shape)
        self.network = network
        self.weights = weights
        self.frozen = frozen
        self.image_size = image_size
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))
        self.backbone = backbone
        self._head = head
        self.requires_grad_()
        self.train()  # Lightning keeps the modes that it finds.

    @classmethod
    def fetch(cls, settings: Mapping[str, Any]) -> None:
        """Download the weights if they are missing.

        Raises:
            InvalidInputError: an unknown network or weights, a missing file, or a failed download.
        """
        network: Any = settings.get("network")
        weights: Any = settings.get("weights")
        check_network(network, weights)
        if weights is not None:
            fetch_weights(network, weights)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether weights are trained; frozen weights never are."""
        return super().requires_grad_(requires_grad and not self.frozen)

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; a frozen network stays in evaluation mode and keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def encode_images(self, images: Tensor) -> Tensor:
        """Scale, normalise and encode images, (n, c, h, w) → (n, e)."""
        images = images.to(self.mean.dtype)
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        encoded: Tensor = self.backbone((images - self.mean) / self.deviation)
        return encoded

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Load the weights, or draw them and measure the normalisation statistics on training images.

        Raises:
            InvalidInputError: a missing or damaged file, weights of another network, or values outside [0, 1].
        """
        least, most = float(features.min()), float(features.max())
        if least < 0 or most > 1:
            raise InvalidInputError(
                f"images have values from {least:g} to {most:g}; {self.network} expects brightness in [0, 1]: "
                "divide 8-bit values by 255."
            )
        self.mean.copy_(torch.tensor(MEAN, dtype=torch.float64)[:, None, None])
        self.deviation.copy_(torch.tensor(DEVIATION, dtype=torch.float64)[:, None, None])
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        drawn, _, _ = build_headless(self.network, seed)
        self.backbone.load_state_dict(drawn.state_dict())
        if self.weights is not None:
            load_weights(self.backbone, self.network, self.weights, self._head)
            return self
        log.warning(
            "%s starts with random weights; encoder.weights=DEFAULT starts with weights trained on ImageNet.",
            self.network,
        )
        if len(features) > 1:
            measure_batch_statistics(self, random_batches(features, SAMPLE, BATCH, generator))
        return self
