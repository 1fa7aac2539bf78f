"""Features of images from a frozen encoder, computed once."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from deephash.data.descriptors.base import Descriptor, check_images
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.preprocessing import Preprocessing
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.functional.fused_normalisation import fuse_normalisation
from deephash.validation import InvalidInputError

# Images per forward pass. On CPUs, the feature maps of 8 images of 224 × 224 pixels fit into a core's cache: 32 images
# take 1.4 times as long per image. GPUs need more to be busy.
CPU_BATCH, GPU_BATCH = 8, 256
# Largest relative difference that merging normalisations may make; rounding makes 1e-6.
TOLERANCE = 1e-4


@final
class NetworkFeatures(Descriptor):
    """The output of a pretrained network, with fixed weights.

    `encoder=timm` and the other pretrained encoders use it if they are frozen and there is no augmentation. Features
    are computed once and cached. On a CPU, each of torch's threads computes its own images; on a machine with a GPU,
    the GPU computes all.

    Args:
        encoder: the encoder's class with its settings, such as `functools.partial(Timm, network="resnet18",
            weights="hub")`. Weights are required, since features of a random network are hardly better than pixels.

    Raises:
        InvalidInputError: an unknown network, or no pretrained encoder; in `describe`, missing or unsuitable weights.
    """

    costly: ClassVar[bool] = True

    def __init__(self, encoder: Callable[..., PretrainedEncoder]) -> None:
        kind: Any = encoder.func if isinstance(encoder, functools.partial) else encoder
        if not (inspect.isclass(kind) and issubclass(kind, PretrainedEncoder)):
            raise InvalidInputError(f"encoder={encoder!r}; expected a pretrained encoder, such as Timm.")
        self.encoder = encoder
        self.settings: Mapping[str, Any] = encoder.keywords if isinstance(encoder, functools.partial) else {}
        self.source: NetworkSource = kind.get_source(self.settings)
        self.preprocessing: Preprocessing = self.source.read_preprocessing()
        self.image_size = self.preprocessing.scaled_size
        self.interpolation = self.preprocessing.interpolation
        self.precision = str(self.settings.get("precision") or "float32")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, with the digest of the weights."""
        return {
            "descriptor": "network_features",
            **self.source.describe(),
            "precision": self.precision,
            "device": self.device,
        }

    def contents(self) -> str:
        """Return the digest of the file of weights."""
        return self.source.digest()

    def describe(self, images: np.ndarray) -> Tensor:
        """Compute features of images.

        Args:
            images: uint8, colour (n, h, w, 3) or grey (n, h, w), of any size.

        Returns:
            float32 (n, e), for the width e of the network's penultimate layer.

        Raises:
            InvalidInputError: missing or damaged weights, or weights of another network.
        """
        check_images(images)
        self.source.check_trained()
        network = load_network(self)
        size = CPU_BATCH if self.device == "cpu" else GPU_BATCH
        starts = range(0, len(images), size)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads if self.device == "cpu" else 1) as pool:
                blocks = pool.map(lambda start: self._describe_block(network, images[start : start + size]), starts)
                return torch.cat(list(blocks))
        finally:
            torch.set_num_threads(threads)

    def _describe_block(self, network: nn.Module, images: np.ndarray) -> Tensor:
        with torch.inference_mode():  # it is per thread
            batch = torch.from_numpy(images).to(self.device)
            batch = batch[..., None] if batch.ndim == 3 else batch
            scaled = self.preprocessing.scale(batch.movedim(3, 1).float() / 255).expand(-1, 3, -1, -1)
            mean, deviation = (
                torch.tensor(values, device=self.device)[:, None, None]
                for values in (self.preprocessing.mean, self.preprocessing.deviation)
            )
            dtype = getattr(torch, self.precision)
            normalised = ((scaled - mean) / deviation).to(dtype).contiguous(memory_format=torch.channels_last)
            features: Tensor = network(normalised)
            return features.float().cpu().clone()


# The last networks of this process by their description, so that a server does not load one for each query.
_loaded: dict[str, nn.Module] = {}


def load_network(descriptor: NetworkFeatures) -> nn.Module:
    """Return a descriptor's network with its weights, prepared for evaluation; the last one stays in memory.

    Raises:
        InvalidInputError: missing or damaged weights, or weights of another network.
    """
    key = json.dumps(descriptor.parameters())
    if key not in _loaded:
        source = descriptor.source
        source.check()
        network, _ = source.build_seeded(0)
        source.load(network)
        network.eval().requires_grad_(False)
        prepared = merge_normalisation(network, descriptor.preprocessing.size)
        dtype = getattr(torch, descriptor.precision)
        _loaded.clear()
        _loaded[key] = prepared.to(descriptor.device, dtype).to(memory_format=torch.channels_last)
    return _loaded[key]


def merge_normalisation(network: nn.Module, size: int) -> nn.Module:
    """Return a network with merged normalisations, or the network itself if that changes its output.

    Args:
        network: network in evaluation mode, for images (n, 3, size, size).
        size: side of its input in pixels.
    """
    fused = fuse_normalisation(network)
    probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network(probe), fused(probe)
    error = (found - expected).norm() / expected.norm().clamp(min=torch.finfo(torch.float32).tiny)
    return fused if float(error) < TOLERANCE else network
