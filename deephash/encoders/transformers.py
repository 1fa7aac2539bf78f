"""Any network for images of transformers, such as CLIP, SigLIP, DINOv2 and ViT."""

from collections.abc import Mapping
from typing import Any, final

from deephash.encoders.base import Encoder
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.encoders.transformers_source import TransformersSource
from deephash.io.path_settings import PathOrName


@final
class Transformers(PretrainedEncoder):
    """The image tower of a model of transformers, frozen or fine-tuned.

    Images are scaled, cropped and normalised as the model's image processor says. Of models for images and texts, such
    as CLIP, the features are the projected ones; data of images and texts then take the texts' features from the same
    model. Only weights in safetensors are read, and no code of a repository is run. Needs `pip install
    'deephash[pretrained]'`.

    Known weakness: transformers for images need a GPU to be fine-tuned, and seconds an image to be trained on a CPU.

    Shape:
        flat images (n, h · w · c), in [0, 1] → (n, e), for the width e of the model's features.

    Args:
        input_dim: values of an image, h · w · c.
        network: the folder of a model, or a name of the Hugging Face hub, such as openai/clip-vit-base-patch32,
            google/siglip-base-patch16-224 or facebook/dinov2-small.
        frozen: whether training leaves the weights and the normalisation statistics unchanged; true, because a linear
            hash layer on good features needs few labels and seconds.
        unfreeze_from: name of the first part of the network that learns if `frozen` is false; all parts before it stay
            frozen. None lets all parts learn.
        rate: factor of the learning rate of the network's weights; 0.1, as usual in papers that fine-tune a network
            under a new hash layer.
        checkpointing: whether training keeps few activations and computes the others again, which saves memory.
        precision: float32, or bfloat16, in which the network computes.
        image_size: side in pixels of the network's input; None for the network's own. Others interpolate positions.
        crop: share of the side of the scaled image that the central crop keeps; None for the network's own.
        architecture: configuration of the network, which a stored hasher contains; None reads that of `network`.
        channels: channels of the images, 3 or 1; None to infer them from `input_dim`.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.
        head: layers after the network, fitted on its features; None for none.

    Raises:
        InvalidInputError: no such model, contradicting settings, or an invalid image shape; in `fit`, damaged files, or
            values outside [0, 1].

    References:
        Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021; Zhai,
        Mustafa, Kolesnikov & Beyer, "Sigmoid loss for language image pre-training", ICCV 2023; Oquab et al., "DINOv2:
        learning robust visual features without supervision", TMLR 2024; Dosovitskiy et al., "An image is worth 16x16
        words", ICLR 2021.
    """

    def __init__(
        self,
        input_dim: int,
        network: PathOrName,
        frozen: bool = True,
        unfreeze_from: str | None = None,
        rate: float = 0.1,
        checkpointing: bool = False,
        precision: str = "float32",
        image_size: int | None = None,
        crop: float | None = None,
        architecture: dict[str, Any] | None = None,
        channels: int | None = None,
        height: int | None = None,
        width: int | None = None,
        head: Encoder | None = None,
    ) -> None:
        source = TransformersSource(network, architecture, image_size, crop)
        super().__init__(
            input_dim,
            source,
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
        self.image_size = image_size
        self.crop = crop
        self.architecture = source.architecture

    @classmethod
    def get_source(cls, settings: Mapping[str, Any]) -> TransformersSource:
        """Return the network that the settings of the constructor name."""
        names = ("network", "architecture", "image_size", "crop")
        return TransformersSource(*(settings.get(name) for name in names))  # type: ignore[arg-type]

    @classmethod
    def get_text_descriptor(cls, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the config of the text tower of the same model; None if it has none."""
        if "text_config" not in cls.get_source(settings).architecture["model"]:
            return None
        return {"_target_": "deephash.data.text_descriptors.TextTower", "model": settings["network"]}
