"""Features of image files and of texts, computed once and cached."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deephash.data.cache import BLOCK_IMAGES, build_description_key, read_or_compute
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.image_decoding import DECODING_VERSION, read_image
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.data.unfinished_rows import UnfinishedRows
from deephash.io.progress import track
from deephash.validation import InvalidInputError

THUMBNAIL = 64
"""Side in pixels of the thumbnails that are shown beside results."""


def read_or_describe_files(
    files: Sequence[Path],
    descriptor: Descriptor | None,
    cache: str | Path,
    contents: Iterable[bytes] | None = None,
    thumbnails: bool = True,
) -> dict[str, Tensor]:
    """Return features and thumbnails of image files, from the cache if they are in it.

    Args:
        files: n image files.
        descriptor: computes the features; its `image_size` is the side to which images are scaled and cropped. None
            makes only thumbnails.
        cache: folder of computed features.
        contents: identity of each file for the cache's key. None uses name, size and modification time, because
            reading hundreds of thousands of files of a published data set takes minutes.
        thumbnails: whether to make thumbnails, which take 12 kB each.

    Returns:
        features float32 (n, d) if there is a descriptor, and thumbnails uint8 (n, 64, 64, 3) unless they are left out.

    Raises:
        InvalidInputError: a missing or unreadable file, or a descriptor without an image size.
    """
    side = THUMBNAIL if thumbnails else None
    settings: dict[str, object] = {"images": len(files), "thumbnail": side, "decoding": DECODING_VERSION}
    if descriptor is None:
        name, size, key = "thumbnails", THUMBNAIL, hashlib.sha256(json.dumps(settings).encode())
    elif descriptor.image_size is None:
        raise InvalidInputError("descriptor.image_size=None; set the side in pixels to which images are scaled.")
    else:
        name, size = f"images-{type(descriptor).__name__.lower()}", descriptor.image_size
        key = build_description_key(descriptor, settings)
    for identity in [_read_file_states(files).encode()] if contents is None else contents:
        key.update(identity)

    def compute(computed: UnfinishedRows) -> dict[str, Tensor]:
        return describe_files(files, descriptor, size, thumbnails, computed)

    return read_or_compute(cache, name, key.hexdigest(), compute)


def read_or_describe_texts(texts: Sequence[str], descriptor: TextDescriptor, cache: str | Path) -> Tensor:
    """Return features float32 (n, d) of n texts, from the cache if they are in it and costly to compute."""
    if not descriptor.costly:
        return descriptor.describe(texts)
    key = build_description_key(descriptor, {"texts": len(texts)})
    key.update(json.dumps(list(texts)).encode())
    name = f"texts-{type(descriptor).__name__.lower()}"
    return read_or_compute(cache, name, key.hexdigest(), lambda _: {"features": descriptor.describe(texts)})["features"]


def describe_files(
    files: Sequence[Path],
    descriptor: Descriptor | None,
    size: int,
    with_thumbnails: bool = True,
    computed: UnfinishedRows | None = None,
) -> dict[str, Tensor]:
    """Compute features and thumbnails of image files, in blocks.

    Args:
        files: n image files.
        descriptor: computes the features; None makes only thumbnails.
        size: side to which images are scaled and cropped.
        with_thumbnails: whether to make thumbnails.
        computed: rows of the first files that are computed already; the others are added.

    Returns:
        features float32 (n, d) if there is a descriptor, and thumbnails uint8 (n, 64, 64, 3) unless they are left out.

    Raises:
        InvalidInputError: unreadable files; the message has their number and the first name.
    """
    from PIL import Image

    computed = UnfinishedRows() if computed is None else computed
    unreadable = []
    interpolation = "bilinear" if descriptor is None else descriptor.interpolation

    def decode(file: Path) -> np.ndarray | str:
        try:
            resize = None if descriptor is None else descriptor.resize
            return read_image(file, size, interpolation=interpolation, resize=resize)
        except Exception as error:  # Pillow's decoders raise many types for damaged files
            return str(error) or type(error).__name__

    blocks = [files[first : first + BLOCK_IMAGES] for first in range(computed.rows, len(files), BLOCK_IMAGES)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block in track(blocks, "Images"):
            images = []
            for file, decoded in zip(block, pool.map(decode, block), strict=True):
                if isinstance(decoded, str):
                    unreadable.append((file, decoded))
                else:
                    images.append(decoded)
            if unreadable:  # No features are returned; the other files are only checked.
                continue
            rows = {} if descriptor is None else {"features": descriptor.describe(np.stack(images))}
            if with_thumbnails:
                small = [np.array(Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL))) for image in images]
                rows["thumbnails"] = torch.from_numpy(np.stack(small))
            computed.add(rows)
    if unreadable:
        file, reason = unreadable[0]
        raise InvalidInputError(
            f"{len(unreadable)} of {len(files)} images cannot be read, the first {file} ({reason}); repair or "
            "remove them."
        )
    return computed.join()


def files_digest(files: Sequence[Path]) -> str:
    """Return a digest of image files by name and size; reading their contents would take minutes."""
    return words_digest((file.name, file.stat().st_size) for file in files)


def _read_file_states(files: Sequence[Path]) -> str:
    """Return name, size and modification time of each file as JSON."""
    try:
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except FileNotFoundError as error:
        raise InvalidInputError(f"{error.filename} does not exist; unpack the images again.") from error
    except (OSError, ValueError) as error:  # a damaged list can contain an impossible file name
        raise InvalidInputError(f"an image of the list cannot be read ({error}); unpack the images again.") from error
    return json.dumps(states)
