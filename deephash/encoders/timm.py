"""Any network of timm, without its classifier."""

from collections.abc import Mapping
from typing import Any, final

from deephash.encoders.base import Encoder
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.encoders.timm_source import TimmSource
from deephash.io.path_settings import PathOrName


@final
class Timm(PretrainedEncoder):
    """A network of timm (PyTorch Image Models), frozen or fine-tuned.

    Images are scaled, cropped and normalised as in timm's configuration of the network. `fit` sets the weights, so that
    a stored hasher, which contains its weights, needs no download and no file. Needs `pip install
    'deephash[pretrained]'`.

    Known weakness: images much smaller than the network's input cost as much as large ones; for 32 × 32 pixels and
    many labels, `Convolutional` learns at a fraction of the cost.

    Shape:
        flat images (n, h · w · c), in [0, 1] → (n, e), for the width e of the network's penultimate layer.

    Args:
        input_dim: values of an image, h · w · c.
        network: timm's name of a network, such as tf_efficientnet_lite0, convnext_tiny or vit_small_patch16_224.
        weights: "hub" for timm's weights from the Hugging Face hub; "package" for those of an installed package, which
            exist for tf_efficientnet_lite0, 1 and 2; a .safetensors, .pth or .pt file; or None for random weights.
        frozen: whether training leaves the weights and the normalisation statistics unchanged; true, because a linear
            hash layer on good features needs few labels and seconds.
        unfreeze_from: name of the first part of the network that learns if `frozen` is false, such as blocks.5; all
            parts before it stay frozen. None lets all parts learn.
        rate: factor of the learning rate of the network's weights; 0.1, as usual in papers that fine-tune a network
            under a new hash layer.
        checkpointing: whether training keeps few activations and computes the others again, which saves memory.
        precision: float32, or bfloat16, in which the network computes; bfloat16 takes half the time on processors that
            multiply it natively, and its features differ by about 1 %.
        image_size: side in pixels of the network's input; None for the network's own.
        crop: share of the side of the scaled image that the central crop keeps; None for the network's own.
        channels: channels of the images, 3 or 1; None to infer them from `input_dim`.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.
        head: layers after the network, fitted on its features; None for none.

    Raises:
        InvalidInputError: an unknown network, weights or part, contradicting settings, or an invalid image shape; in
            `fit`, a missing or damaged file, weights of another network, or values outside [0, 1].

    References:
        Wightman, "PyTorch Image Models", 2019; Tan & Le, "EfficientNet: rethinking model scaling for convolutional
        neural networks", ICML 2019; Cao, Long, Wang & Yu, "HashNet: deep learning to hash by continuation", ICCV 2017,
        §4, for the rate.
    """

    def __init__(
        self,
        input_dim: int,
        network: str,
        weights: PathOrName | None,
        frozen: bool = True,
        unfreeze_from: str | None = None,
        rate: float = 0.1,
        checkpointing: bool = False,
        precision: str = "float32",
        image_size: int | None = None,
        crop: float | None = None,
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
        head: Encoder | None = None,
    ) -> None:
        super().__init__(
            input_dim,
            TimmSource(network, weights, image_size, crop),
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

    @classmethod
    def get_source(cls, settings: Mapping[str, Any]) -> NetworkSource:
        """Return the network that the settings of the constructor name."""
        return TimmSource(*(settings.get(name) for name in ("network", "weights", "image_size", "crop")))  # type: ignore[arg-type]
