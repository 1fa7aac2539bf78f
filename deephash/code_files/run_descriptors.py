"""Find the descriptors that computed the features of a run's images and texts, to apply them to other items."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from deephash.data.descriptors.base import Descriptor
from deephash.data.descriptors.network_features import NetworkFeatures
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.base import Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.encoders.identity import Identity
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.hashers.loading import load
from deephash.io.instantiation import build
from deephash.io.path_settings import describe_paths, make_paths_absolute
from deephash.io.run_folder import RunFolder
from deephash.validation import InvalidInputError


class NoDescriptorError(InvalidInputError):
    """Error for a run whose features were computed outside deephash."""


def image_descriptor(run: Path) -> Descriptor:
    """Build the descriptor of the images of a run's data.

    Raises:
        NoDescriptorError: the data do not compute their features from images.
        InvalidInputError: not a run, or changed files of the descriptor.
    """
    if not RunFolder(run).config.exists():
        return build_pixels(run)
    data = read_data_settings(run)
    is_described = data.get("view") != "text" and not data.get("image_features")
    descriptor: Descriptor = build_descriptor(
        run, data, "images", ("descriptor", "image_descriptor") if is_described else (), "image_descriptor"
    )
    return descriptor


def build_pixels(run: Path) -> Descriptor:
    """Build the descriptor of a hasher that contains its network and has no run: the pixels that its encoder expects.

    Raises:
        NoDescriptorError: the hasher contains no pretrained network.
    """
    hasher = load(run)
    encoder = hasher.encoder if isinstance(hasher, Hasher) else None
    if not isinstance(encoder, PretrainedEncoder):
        raise NoDescriptorError(
            f"{run} is a hasher without a run, and does not contain a network for images; give its features instead."
        )
    return Pixels(encoder.preprocessing.scaled_size, interpolation=encoder.preprocessing.interpolation)


def join_network(run: Path) -> Hasher | CrossModalHasher:
    """Load the hasher of a run; if a frozen network computed its features, the network becomes a part of its encoder.

    Layers that learnt from the features follow the network. The hasher then takes images as flat rows of pixels, as
    `build_pixels` describes them, and needs no other file. Its codes equal those of the run up to rounding in the
    network.

    Args:
        run: folder of a run, or of a hasher.

    Raises:
        InvalidInputError: no hasher, or files of the network that are missing or differ from those of the run.
    """
    hasher = load(run)
    if not RunFolder(run).config.exists() or not isinstance(hasher, Hasher):
        return hasher
    try:
        descriptor = image_descriptor(run)
    except NoDescriptorError:
        return hasher
    if not isinstance(descriptor, NetworkFeatures):
        return hasher
    head = None if isinstance(hasher.encoder, Identity) else hasher.encoder
    side = descriptor.preprocessing.scaled_size
    images = torch.zeros(1, 3 * side * side)
    encoder = descriptor.encoder(input_dim=images.shape[1], head=head).fit(images, torch.Generator().manual_seed(0))
    return Hasher(hasher.projection, hasher.quantizer, encoder).eval()


def text_descriptor(run: Path) -> TextDescriptor:
    """Build the descriptor of the texts of a run's data.

    Raises:
        NoDescriptorError: the data do not compute their features from texts.
        InvalidInputError: not a run, a library that is not installed, or changed files of the descriptor.
    """
    data = read_data_settings(run)
    names = ("text_descriptor",) if data.get("view") != "image" else ()
    descriptor: TextDescriptor = build_descriptor(run, data, "texts", names, "text_descriptor")
    return descriptor


def build_descriptor(run: Path, data: DictConfig, items: str, names: tuple[str, ...], digest_name: str) -> Any:
    """Build the first descriptor that the data have, and check its files.

    Args:
        run: folder of the run.
        data: settings of its data.
        items: images or texts, for the message.
        names: names of the settings that may contain the descriptor.
        digest_name: name of the digest of its files in the run's split.

    Raises:
        NoDescriptorError: the data have no such setting.
    """
    for name in names:
        if isinstance(data.get(name), DictConfig):
            descriptor = build(make_paths_absolute(data[name]))
            check_contents(run, digest_name, descriptor.contents(), describe_paths(data[name], f"data.{name}"))
            return descriptor
    raise NoDescriptorError(
        f"{run} was fitted on features that its data do not compute from {items}; give such features instead of "
        f"{items}."
    )


def check_contents(run: Path, name: str, digest: str, files: str) -> None:
    """Raise an error if a descriptor's files differ from those that computed the run's features.

    Args:
        run: folder of the run.
        name: image_descriptor or text_descriptor.
        digest: digest of the current files; empty for no files.
        files: description of the files, for the message.
    """
    path = RunFolder(run).split
    if path.exists():
        split = Split.load(path)
        recorded = {part: value for part, value in split.digests.items() if part == name}
        split.with_digests(recorded, split.file).check_data({name: digest}, files)


def read_data_settings(run: Path) -> DictConfig:
    """Read the settings of a run's data."""
    data = RunFolder(run).read_config().get("data")
    return data if isinstance(data, DictConfig) else DictConfig({})
