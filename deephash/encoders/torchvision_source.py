"""Classification networks of torchvision, with weights that torchvision publishes or of a file."""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from deephash.conversion import shorten_error
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.preprocessing import Preprocessing
from deephash.validation import InvalidInputError, check_choice

UNSUPPORTED = ("googlenet", "inception_v3", "squeezenet1_0", "squeezenet1_1")
"""Networks without a single final linear map: two have side branches, and two end in a convolution."""


def list_networks() -> list[str]:
    """Return the names of torchvision's classification networks that end in one linear map."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if name not in UNSUPPORTED]


class TorchvisionSource(NetworkSource):
    """A network of torchvision.

    The weights are a name of torchvision's, such as IMAGENET1K_V1 or DEFAULT, which are downloaded to torch's cache, or
    a file. Files and random weights have the preprocessing of the network's first weights.

    Args:
        network: torchvision's name of the network.
        weights: name or file of the weights; None for random ones.
        image_size: see `NetworkSource`.
        crop: see `NetworkSource`.
        interpolation: bilinear or bicubic; None for that of the weights.
    """

    def __init__(
        self,
        network: str,
        weights: str | None,
        image_size: int | None = None,
        crop: float | None = None,
        interpolation: str | None = None,
    ) -> None:
        super().__init__(network, weights, image_size, crop)
        self.interpolation = interpolation

    def check(self) -> None:
        """Raise an error for a network that torchvision does not have, or weights that the network does not have.

        Raises:
            InvalidInputError: the message lists the valid names.
        """
        check_choice(self.network, list_networks(), "network")
        if self.weights is not None and not self.is_file:
            check_choice(self.weights, torchvision.models.get_model_weights(self.network).__members__, "weights")
            own = self._find_published().transforms().crop_size[0]
            if self._is_sized and self.image_size not in (None, own):
                raise InvalidInputError(
                    f"image_size={self.image_size}; weights={self.weights!r} of {self.network} accept only {own} × "
                    f"{own} pixels."
                )

    def read_preprocessing(self) -> Preprocessing:
        """Return the preprocessing of torchvision's weights, with the settings of the user."""
        check_choice(self.network, list_networks(), "network")
        known: Any = self._find_published().transforms()
        return Preprocessing(
            known.crop_size[0] if self.image_size is None else self.image_size,
            tuple(known.mean),
            tuple(known.std),
            known.interpolation.value if self.interpolation is None else self.interpolation,
            known.crop_size[0] / known.resize_size[0] if self.crop is None else self.crop,
        )

    def build(self) -> tuple[nn.Module, int]:
        """Build the network with the identity in place of its classifier, the last linear map."""
        sized = {"image_size": self.read_preprocessing().size} if self._is_sized else {}
        network: nn.Module = torchvision.models.get_model(self.network, weights=None, **sized)
        name, head = [(name, part) for name, part in network.named_modules() if isinstance(part, nn.Linear)][-1]
        network.set_submodule(name, nn.Identity())
        return network, head.in_features

    def checkpoint(self, module: nn.Module) -> None:
        """Let each block keep only its input in training."""
        for block in list_blocks(module):
            block.forward = functools.partial(_call_block, block.forward)  # type: ignore[method-assign]

    def find_file(self) -> Path | None:
        """Return the file of weights, after a download if torch's cache lacks it.

        Raises:
            InvalidInputError: a missing file or a failed download; the message has the address and the local path.
        """
        if self.weights is None:
            return None
        if self.is_file:
            return self.find_user_file()
        address: str = self._find_published().url
        path = Path(str(torch.hub.get_dir())) / "checkpoints" / address.rpartition("/")[2]
        if not path.is_file():
            digest = path.stem.rpartition("-")[2]  # file names of torchvision contain the first digits of the SHA-256
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(address, str(path), digest, progress=sys.stderr.isatty())
            except Exception as error:  # errors of urllib, sockets, the disk or the SHA-256
                raise InvalidInputError(
                    f"weights={self.weights!r} of {self.network} cannot be downloaded ({shorten_error(error)}); save "
                    f"{address} as {path}, or give a file: weights=FILE."
                ) from error
        return path

    @property
    def _is_sized(self) -> bool:
        """Whether the network is built for images of one size."""
        return self.network.startswith("vit_")

    def _find_published(self) -> Any:
        """Return torchvision's entry of the weights, or of the network's first ones."""
        published: Any = torchvision.models.get_model_weights(self.network)
        return next(iter(published)) if self.weights is None or self.is_file else published[self.weights]


def list_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a network that follow each other: the members of its sequences, outermost first."""
    for part in module.children():
        if type(module) is nn.Sequential and type(part) is not nn.Sequential:
            yield part
        else:
            yield from list_blocks(part)


def _call_block(forward: Any, *inputs: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False) if torch.is_grad_enabled() else forward(*inputs)
