"""What made features of a run's own images and texts, and so makes those of others."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from deephash.data.descriptors.base import Descriptor
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.run_folder import RunFolder
from deephash.validation import InvalidInputError


class NoDescriptorError(InvalidInputError):
    """The features of a run's data were made elsewhere."""


def image_descriptor(run: Path) -> Descriptor:
    """What described the images of a run's data.

    Raises:
        NoDescriptorError: the data did not make their features from images.
        InvalidInputError: no run there.
    """
    data = data_settings(run)
    names = () if data.get("view") == "text" or data.get("image_features") else ("descriptor", "image_descriptor")
    for name in names:
        if isinstance(data.get(name), DictConfig):
            descriptor: Descriptor = instantiate(data[name])
            return descriptor
    raise NoDescriptorError(
        f"{run} was fitted on features that its data do not make from images; give features of that kind, not images."
    )


def text_descriptor(run: Path) -> TextDescriptor:
    """What described the texts of a run's data.

    Raises:
        NoDescriptorError: the data did not make their features from texts.
        InvalidInputError: no run there, or a library that is not installed.
    """
    data = data_settings(run)
    if data.get("view") != "image" and isinstance(data.get("text_descriptor"), DictConfig):
        descriptor: TextDescriptor = instantiate(data.text_descriptor)
        return descriptor
    raise NoDescriptorError(
        f"{run} was fitted on features that its data do not make from texts; give features of that kind, not texts."
    )


def data_settings(run: Path) -> DictConfig:
    """The settings of a run's data.

    Raises:
        InvalidInputError: no run there.
    """
    data = RunFolder(run).read_config().get("data")
    return data if isinstance(data, DictConfig) else DictConfig({})
