"""Images in a folder as rows of features, computed by the descriptor of a run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from deephash.code_files.fingerprint import fingerprint_folder
from deephash.code_files.rows import BadRow, RowBlock, RowSource, build_block
from deephash.data.cache import BLOCK_IMAGES
from deephash.data.descriptors.base import Descriptor
from deephash.data.image_decoding import DECODING_VERSION, read_image
from deephash.data.image_listing import find_images
from deephash.io.files import describe_error


class ImageRows(RowSource):
    """Images at any depth of a folder; ids are their paths relative to it.

    Args:
        folder: folder of the images.
        descriptor: descriptor that computes their features.
        size: side in pixels to which images are scaled and cropped.

    Raises:
        InvalidInputError: no such folder, or no images in it.
    """

    most_rows = BLOCK_IMAGES
    named = True

    def __init__(self, folder: Path, descriptor: Descriptor, size: int) -> None:
        self.folder = folder
        self.descriptor = descriptor
        self.size = size
        self.files = find_images(folder)
        self.names = [file.relative_to(folder).as_posix() for file in self.files]
        self.rows = len(self.names)

    @property
    def dimension(self) -> None:
        """None, because the dimension is unknown until the first images are described."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the files, and the settings of decoding and descriptor."""
        return {**fingerprint_folder(self.folder, self.files), **self._description()}

    def _description(self) -> dict[str, Any]:
        """Return the settings that determine the features."""
        settings = {"descriptor": type(self.descriptor).__name__, **self.descriptor.parameters()}
        return {**settings, "side": self.size, "decoding": DECODING_VERSION}

    def blocks(self, start: int, rows: int) -> Iterator[RowBlock]:
        """Yield blocks of images; images that cannot be decoded become bad rows."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for first in range(start, len(self.names), rows):
                yield self._block(first, self.names[first : first + rows], pool)

    @property
    def _resize(self) -> int | None:
        """Length to which the shorter side is scaled before cropping; in proportion, if the size is not the run's."""
        resize, size = self.descriptor.resize, self.descriptor.image_size
        return None if resize is None or size is None else round(resize * self.size / size)

    def _block(self, first: int, names: list[str], pool: ThreadPoolExecutor) -> RowBlock:
        images, places, bad = [], [], []
        for place, decoded in enumerate(pool.map(self._decode, names)):
            if isinstance(decoded, str):
                bad.append(BadRow(first + place, names[place], decoded))
            else:
                images.append(decoded)
                places.append(place)
        stop = first + len(names)
        if not images:
            return RowBlock(torch.empty(0, 0), [], bad, stop)
        features = self.descriptor.describe(np.stack(images))
        ids = [names[place] for place in places]
        block = build_block(features.numpy(), ids, first + np.array(places), stop)
        return RowBlock(block.features, block.ids, bad + block.bad, stop)

    def _decode(self, name: str) -> np.ndarray | str:
        try:
            return self._read(name)
        except Exception as error:  # Pillow's decoders raise many kinds of exceptions for damaged files.
            return describe_error(error)

    def _read(self, name: str) -> np.ndarray:
        return self._scale(self.folder / name)

    def _scale(self, file: Path | BinaryIO) -> np.ndarray:
        """Decode an image in the way that the run's images were decoded."""
        return read_image(file, self.size, interpolation=self.descriptor.interpolation, resize=self._resize)
