"""Features of images from a pretrained network of torchvision."""

from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor, check_images
from deephash.encoders.torchvision_source import TorchvisionSource, list_networks
from deephash.io.path_settings import PathOrName
from deephash.io.progress import track
from deephash.io.sealed_files import file_digest
from deephash.validation import InvalidInputError, check_choice, check_count


@final
class TorchvisionFeatures(Descriptor):
    """Activations of the layer before a network's classifier, with fixed pretrained weights.

    Features are computed once and cached. Images are scaled to `image_size`; `encoder=torchvision_backbone
    encoder.frozen=true` computes features of images that are scaled and cropped as for the weights. Weights are
    required, since features of a random network are hardly better than pixels.

    Args:
        network: torchvision's name of a network, such as resnet18, alexnet or vit_b_16.
        weights: torchvision's name of weights, such as IMAGENET1K_V1, or a .safetensors, .pth or .pt file of weights.
            Weights of torchvision are downloaded unless they are in torch's cache.
        image_size: side in pixels to which loaders scale and crop images; most of the weights were trained with 224.
        batch_size: images per forward pass; 32 need about 2 GiB for a ResNet-50.
        device: device of the computation, such as "cpu" or "cuda"; features differ by rounding between devices.

    Raises:
        InvalidInputError: an unknown network, or no weights; in `describe`, missing or unsuitable weights.
    """

    def __init__(
        self, network: str, weights: PathOrName, image_size: int = 224, batch_size: int = 32, device: str = "cpu"
    ) -> None:
        check_choice(network, list_networks(), "network")
        if not weights:
            raise InvalidInputError(f"weights={weights!r}; give torchvision's name, such as IMAGENET1K_V1, or a file.")
        check_count(image_size, "image_size")
        check_count(batch_size, "batch_size")
        self.network = network
        self.weights = weights
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, with the digest of a file of weights."""
        return {
            "descriptor": "torchvision_features",
            "network": self.network,
            "weights": self.contents() or self.weights,
            "image_size": self.image_size,
            "device": torch.device(self.device).type,
        }

    def contents(self) -> str:
        """Return the digest of the file of weights; empty for torchvision's weights."""
        path = Path(self.weights).expanduser()
        return file_digest(path) if path.is_file() else ""

    @torch.no_grad()
    def describe(self, images: np.ndarray) -> Tensor:
        """Compute features of images.

        Args:
            images: uint8, colour (n, h, w, 3) or grey (n, h, w). Grey values are repeated in three channels.

        Returns:
            float32 (n, d), for the width d of the network's penultimate layer.

        Raises:
            InvalidInputError: missing or damaged weights, or weights of another network.
        """
        check_images(images)
        network = self._loaded_network
        known = TorchvisionSource(self.network, self.weights).read_preprocessing()
        mean, deviation = (
            torch.tensor(values, device=self.device)[:, None, None] for values in (known.mean, known.deviation)
        )
        features = []
        starts = range(0, len(images), self.batch_size)
        for start in track(starts, f"{self.network} features"):
            batch = torch.from_numpy(images[start : start + self.batch_size]).to(self.device)
            batch = batch[..., None].expand(-1, -1, -1, 3) if batch.ndim == 3 else batch
            features.append(network((batch.movedim(3, 1).float() / 255 - mean) / deviation).float().cpu())
        return torch.cat(features)

    @cached_property
    def _loaded_network(self) -> torch.nn.Module:
        """The network with its weights, which all blocks of images use."""
        source = TorchvisionSource(self.network, self.weights)
        source.check()
        network, _ = source.build_seeded(0)
        source.load(network)
        return network.eval().to(self.device)
