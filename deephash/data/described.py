"""Features of image files and of texts: computed once, and kept."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from deephash.data.cache import cached, description_key
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.image_folder import THUMBNAIL, describe_files, image_key
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.validation import InvalidInputError


def described_images(files: Sequence[Path], descriptor: Descriptor | None, cache: str | Path) -> dict[str, Tensor]:
    """Features and thumbnails of a published set's image files, from the cache where they are there.

    The key holds each file's name, size and time of change: a published set has up to hundreds of thousands of files,
    whose contents would take minutes to read for every run.

    Args:
        files: n image files.
        descriptor: what describes them; its `image_size` is the side to which they are scaled and cropped. None makes
            thumbnails alone.
        cache: folder of computed features.

    Returns:
        features float32 (n, d), where there is a descriptor, and thumbnails uint8 (n, 64, 64, 3).

    Raises:
        InvalidInputError: a missing or unreadable file, or a descriptor without an image size.
    """
    if descriptor is None:
        name, size, key = "thumbnails", THUMBNAIL, hashlib.sha256(json.dumps(image_key(len(files))).encode())
    elif descriptor.image_size is None:
        raise InvalidInputError("descriptor.image_size=None; images differ in size: give the side to scale them to.")
    else:
        name, size = f"images-{type(descriptor).__name__.lower()}", descriptor.image_size
        key = description_key(descriptor, image_key(len(files)))
    key.update(_states(files).encode())
    return cached(cache, name, key.hexdigest(), lambda: describe_files(files, descriptor, size))


def described_texts(texts: Sequence[str], descriptor: TextDescriptor, cache: str | Path) -> Tensor:
    """Features float32 (n, d) of n texts, from the cache where they are there and worth keeping."""
    if not descriptor.costly:
        return descriptor.describe(texts)
    key = description_key(descriptor, {"texts": len(texts)})
    key.update(json.dumps(list(texts)).encode())
    name = f"texts-{type(descriptor).__name__.lower()}"
    return cached(cache, name, key.hexdigest(), lambda: {"features": descriptor.describe(texts)})["features"]


def files_digest(files: Sequence[Path]) -> str:
    """Digest of image files by name and size, wherever they lie: their contents would take minutes to read."""
    return words_digest((file.name, file.stat().st_size) for file in files)


def _states(files: Sequence[Path]) -> str:
    """Name, size and time of change of each file."""
    try:
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except FileNotFoundError as error:
        raise InvalidInputError(f"{error.filename} does not exist; unpack the images again.") from error
    except (OSError, ValueError) as error:  # a name from a damaged list may be none that a file can have
        raise InvalidInputError(f"an image of the list cannot be read ({error}); unpack the images again.") from error
    return json.dumps(states)
