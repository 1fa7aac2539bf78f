"""Any classification network of torchvision, without its classifier."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from deephash.encoders.base import Encoder
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.encoders.torchvision_source import TorchvisionSource
from deephash.io.path_settings import PathOrName


@final
class TorchvisionBackbone(PretrainedEncoder):
    """The input of the classifier of a torchvision network, frozen or trained.

    Images are scaled, cropped and normalised as for torchvision's weights. `fit` sets the weights, so that a stored
    hasher, which contains its weights, needs no download and no file.

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
        frozen: whether training leaves the weights and the normalisation statistics unchanged; false, because weights
            are random by default.
        unfreeze_from: name of the first part of the network that learns if `frozen` is false, such as layer4; all
            parts before it stay frozen. None lets all parts learn.
        rate: factor of the learning rate of the network's weights; 1, for random weights. Papers that fine-tune
            trained ones use 0.1 or 0.01.
        checkpointing: whether training keeps few activations and computes the others again, which saves memory.
        precision: float32, or bfloat16, in which the network computes.
        image_size: side in pixels of the network's input; None for that of the weights, mostly 224.
        crop: share of the side of the scaled image that the central crop keeps; None for that of the weights.
        interpolation: how images are scaled, bilinear or bicubic; None for that of the weights.
        channels: channels of the images, 3 or 1; None to infer them from `input_dim`.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.
        head: layers after the network, fitted on its features; None for none.

    Raises:
        InvalidInputError: an unknown network, weights or part, contradicting settings, an invalid image shape, or a
            size that the weights do not support; in `fit`, a missing or damaged file, weights of another network, or
            values outside [0, 1].

    References:
        He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016;
        Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, 2014;
        Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
    """

    added_arguments: ClassVar[Mapping[str, Any]] = {
        "unfreeze_from": None,
        "rate": 1.0,
        "checkpointing": False,
        "precision": "float32",
        "crop": 1.0,
        "interpolation": "bilinear",
        "head": None,
    }
    extra: ClassVar[str | None] = None

    def __init__(
        self,
        input_dim: int,
        network: str,
        weights: PathOrName | None = None,
        frozen: bool = False,
        unfreeze_from: str | None = None,
        rate: float = 1.0,
        checkpointing: bool = False,
        precision: str = "float32",
        image_size: int | None = None,
        crop: float | None = None,
        interpolation: str | None = None,
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
        head: Encoder | None = None,
    ) -> None:
        super().__init__(
            input_dim,
            TorchvisionSource(network, weights, image_size, crop, interpolation),
            frozen=frozen,
            unfreeze_from=unfreeze_from,
            rate=rate,
            checkpointing=checkpointing,
            precision=precision,
            channels=channels,
            height=height,
            width=width,
            head=head,
        )
        self.network = network
        self.weights = weights
        self.image_size = image_size
        self.crop = crop
        self.interpolation = interpolation

    @classmethod
    def get_source(cls, settings: Mapping[str, Any]) -> NetworkSource:
        """Return the network that the settings of the constructor name."""
        names = ("network", "weights", "image_size", "crop", "interpolation")
        return TorchvisionSource(*(settings.get(name) for name in names))  # type: ignore[arg-type]
