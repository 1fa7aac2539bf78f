"""What made features of a run's own images and texts, and so makes those of others."""

from pathlib import Path

from omegaconf import DictConfig

from deephash.data.descriptors.base import Descriptor
from deephash.data.protocols.base import Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.instantiation import build
from deephash.io.path_settings import paths_in_words, with_absolute_paths
from deephash.io.run_folder import RunFolder
from deephash.validation import InvalidInputError


class NoDescriptorError(InvalidInputError):
    """The features of a run's data were made elsewhere."""


def image_descriptor(run: Path) -> Descriptor:
    """What described the images of a run's data.

    Raises:
        NoDescriptorError: the data did not make their features from images.
        InvalidInputError: no run there, or files of a descriptor that were changed since.
    """
    data = data_settings(run)
    names = () if data.get("view") == "text" or data.get("image_features") else ("descriptor", "image_descriptor")
    for name in names:
        if isinstance(data.get(name), DictConfig):
            descriptor: Descriptor = build(with_absolute_paths(data[name]))
            check_files(run, "image_descriptor", descriptor.contents(), paths_in_words(data[name], f"data.{name}"))
            return descriptor
    raise NoDescriptorError(
        f"{run} was fitted on features that its data do not make from images; give features of that kind, not images."
    )


def text_descriptor(run: Path) -> TextDescriptor:
    """What described the texts of a run's data.

    Raises:
        NoDescriptorError: the data did not make their features from texts.
        InvalidInputError: no run there, a library that is not installed, or files that were changed since.
    """
    data = data_settings(run)
    if data.get("view") != "image" and isinstance(data.get("text_descriptor"), DictConfig):
        name = "text_descriptor"
        descriptor: TextDescriptor = build(with_absolute_paths(data[name]))
        check_files(run, name, descriptor.contents(), paths_in_words(data[name], f"data.{name}"))
        return descriptor
    raise NoDescriptorError(
        f"{run} was fitted on features that its data do not make from texts; give features of that kind, not texts."
    )


def check_files(run: Path, name: str, found: str, files: str) -> None:
    """Raise an error for other files of a descriptor than the run's features were computed by.

    Args:
        run: its folder.
        name: image_descriptor or text_descriptor.
        found: digest of the files at hand; empty for none.
        files: which they are, in words.

    Raises:
        InvalidInputError: naming them.
    """
    split = RunFolder(run).split
    if split.exists():
        known = Split.load(split)
        noted = {part: digest for part, digest in known.digests.items() if part == name}
        known.noting(noted, known.file).check_data({name: found}, files)


def data_settings(run: Path) -> DictConfig:
    """The settings of a run's data.

    Raises:
        InvalidInputError: no run there.
    """
    data = RunFolder(run).read_config().get("data")
    return data if isinstance(data, DictConfig) else DictConfig({})
