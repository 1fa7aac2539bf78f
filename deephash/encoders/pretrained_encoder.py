"""The base class of encoders that start from a pretrained network: what is frozen, what learns, and how fast."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.encoders.image_encoder import ImageEncoder
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.preprocessing import Preprocessing
from deephash.functional.batch_statistics import measure_batch_statistics, random_batches
from deephash.functional.flat_images import image_shape
from deephash.validation import InvalidInputError, check_choice, check_count, check_positive

log = logging.getLogger(__name__)

# Number of images, and images per batch, on which the normalisation statistics of a network with random weights are
# measured. A ResNet-50 needs a minute on a CPU for 256 images of 224 × 224 pixels.
SAMPLE, BATCH = 256, 32
PRECISIONS = ("float32", "bfloat16")


class PretrainedEncoder(ImageEncoder):
    """A network without its classifier, for images of any size.

    Images are scaled, cropped and normalised as the network expects. `fit`, not the constructor, sets the weights, so
    that a stored hasher, which contains its weights, needs no download and no file.

    Subclasses implement `get_source` and name their arguments.

    Shape:
        flat images (n, h · w · c), in [0, 1] → (n, e), for the width e of the network's penultimate layer, or (n, f)
        with a head.

    Args:
        input_dim: values of an image, h · w · c.
        source: the network.
        frozen: whether training leaves the weights and the normalisation statistics unchanged.
        unfreeze_from: name of the first part of the network that learns; all parts before it stay frozen.
        rate: factor of the learning rate of the network's weights.
        checkpointing: whether training keeps few activations and computes the others again.
        precision: float32 or bfloat16, in which the network computes; weights are float32 in both cases.
        channels: channels of the images, 3 or 1; None to infer them from `input_dim`.
        height: rows of pixels; None for square images.
        width: columns of pixels; None for square images.
        head: layers after the network, (n, e) → (n, f); None for none.

    Raises:
        InvalidInputError: an unknown network, weights or part, contradicting settings, or an invalid image shape; in
            `fit`, a missing or damaged file, weights of another network, or values outside [0, 1].
    """

    added_arguments: ClassVar[Mapping[str, Any]] = {"head": None}

    extra: ClassVar[str | None] = "pretrained"
    """Optional extra of the package that the networks need; None for none."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        input_dim: int,
        source: NetworkSource,
        *,
        frozen: bool,
        unfreeze_from: str | None,
        rate: float,
        checkpointing: bool,
        precision: str,
        channels: int | None,
        height: int | None,
        width: int | None,
        head: Encoder | None,
    ) -> None:
        check_count(input_dim, "input_dim")
        check_positive(rate, "rate")
        check_choice(precision, PRECISIONS, "precision")
        source.check()
        shape = image_shape(input_dim, channels, height, width)
        if shape[0] not in (1, 3):
            raise InvalidInputError(f"channels={shape[0]}; {source.network} accepts 3 channels, or 1 of grey images.")
        check_frozen(frozen, unfreeze_from)
        preprocessing = source.read_preprocessing()
        backbone, features = source.build_seeded(0)
        if head is not None and head.input_dim != features:
            raise InvalidInputError(
                f"head takes {head.input_dim} features; {source.network} gives {features}: give layers for them."
            )
        super().__init__(input_dim, features if head is None else head.output_dim, shape)
        self.frozen = frozen
        self.unfreeze_from = unfreeze_from
        self.rate = rate
        self.checkpointing = checkpointing
        self.precision = precision
        self._source = source
        self._preprocessing = preprocessing
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = head
        self._frozen_parts = find_frozen_parts(backbone, frozen, unfreeze_from, source.network)
        if checkpointing:
            source.checkpoint(backbone)
        self.register_load_state_dict_post_hook(arrange_weights)  # type: ignore[no-untyped-call]
        self.requires_grad_()
        self.train()  # Lightning keeps the modes that it finds.

    @classmethod
    @abstractmethod
    def get_source(cls, settings: Mapping[str, Any]) -> NetworkSource:
        """Return the network that the settings of the constructor name."""

    @classmethod
    def fetch(cls, settings: Mapping[str, Any]) -> None:
        """Check the settings and download the weights if they are missing.

        Raises:
            InvalidInputError: an unknown network or weights, a missing file, or a failed download.
        """
        source = cls.get_source(settings)
        source.check()
        source.find_file()

    @classmethod
    def get_text_descriptor(cls, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the config of a descriptor of texts by the same network; None if it does not encode texts."""
        return None

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are scaled, cropped and normalised."""
        return self._preprocessing

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether weights are trained; frozen weights never are."""
        super().requires_grad_(requires_grad)
        for part in self._frozen_parts:
            for weight in part.parameters(recurse=False):
                weight.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; frozen parts stay in evaluation mode and keep their statistics."""
        super().train(mode)
        for part in self._frozen_parts:
            part.training = False
        return self

    def encode_images(self, images: Tensor) -> Tensor:
        """Scale, crop, normalise and encode images, (n, c, h, w) → (n, e)."""
        if not len(images):  # attention cannot reshape empty batches
            return images.new_empty(0, self.output_dim, dtype=self.mean.dtype)
        images = self._preprocessing.scale(images.to(self.mean.dtype))
        images = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        low = self.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16) if low else nullcontext():
            encoded: Tensor = self.backbone(images)
        encoded = encoded.to(self.mean.dtype)
        return encoded if self.head is None else self.head(encoded)

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Load the weights, or draw them and measure the normalisation statistics on training images.

        A head keeps its weights.

        Raises:
            InvalidInputError: a missing or damaged file, weights of another network, or values outside [0, 1].
        """
        least, most = float(features.min()), float(features.max())
        if least < 0 or most > 1:
            raise InvalidInputError(
                f"images have values from {least:g} to {most:g}; {self._source.network} expects brightness in [0, 1]: "
                "divide 8-bit values by 255."
            )
        self.mean.copy_(torch.tensor(self._preprocessing.mean, dtype=torch.float64)[:, None, None])
        self.deviation.copy_(torch.tensor(self._preprocessing.deviation, dtype=torch.float64)[:, None, None])
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        if self._source.weights is not None:
            self._source.load(self.backbone)
            return self
        drawn, _ = self._source.build_seeded(seed)
        self.backbone.load_state_dict(drawn.state_dict())
        log.warning("%s starts with random weights; encoder.weights gives it trained ones.", self._source.network)
        if len(features) > 1:
            measure_batch_statistics(self, random_batches(features, SAMPLE, BATCH, generator))
        return self


def arrange_weights(encoder: nn.Module, _: object) -> None:
    """Restore the memory layout in which weights are trained, so that a resumed training has the same rounding."""
    encoder.get_submodule("backbone").to(memory_format=torch.channels_last)


def check_frozen(frozen: bool, unfreeze_from: str | None) -> None:
    """Raise an error for a part to unfreeze in a network that stays frozen."""
    if frozen and unfreeze_from is not None:
        raise InvalidInputError(
            f"encoder.unfreeze_from={unfreeze_from!r} names a part that learns, and encoder.frozen=true freezes all; "
            "set encoder.frozen=false as well."
        )


def find_frozen_parts(backbone: nn.Module, frozen: bool, unfreeze_from: str | None, network: str) -> list[nn.Module]:
    """Return the modules of a network whose own weights and statistics stay unchanged.

    Args:
        backbone: the network, whose modules are in the order of its layers.
        frozen: whether all modules are.
        unfreeze_from: name of the first module that learns; None for the first one.
        network: name of the network, for the message.

    Raises:
        InvalidInputError: there is no such module; the message lists the parts of the network.
    """
    named = dict(backbone.named_modules())
    if frozen:
        return list(named.values())
    if unfreeze_from is None:
        return []
    names = list(named)
    if unfreeze_from not in names or not unfreeze_from:
        parts = [name for name in names if name and name.count(".") < 2 and list(named[name].parameters())]
        raise InvalidInputError(
            f"encoder.unfreeze_from={unfreeze_from!r} is not a part of {network}; choose one of {', '.join(parts)}."
        )
    return [named[name] for name in names[: names.index(unfreeze_from)]]
