"""Pixels of image files as features, decoded by threads whenever rows are read."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor
from deephash.data.descriptors.pixels import Pixels
from deephash.data.file_rows import FileRows
from deephash.data.image_decoding import read_image
from deephash.io.prefetch import prefetch
from deephash.validation import InvalidInputError

BLOCK_IMAGES = 256
"""Number of images that are decoded and held in memory at once: 38 MB of 224 × 224 pixels."""


MAX_PIXEL_BYTES = 1 << 30
"""Bytes of float32 pixels above which the images of a folder are decoded whenever they are read."""


def count_workers(workers: int | None) -> int:
    """Return the number of threads that decode images; None uses one per available core."""
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def to_brightness(pixels: Tensor) -> Tensor:
    """Convert 8-bit pixels to brightness in [0, 1], float32; other tensors are returned unchanged."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


@final
class ImageFiles:
    """Image files that are decoded in the same way.

    Args:
        files: n image files.
        size: side in pixels to which images are cropped.
        resize: side in pixels to which the shorter side is scaled before; None for `size`.
        workers: number of threads that decode; None for one per core.
        interpolation: how images are scaled, bilinear or bicubic.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: int,
        resize: int | None = None,
        workers: int | None = None,
        interpolation: str = "bilinear",
    ) -> None:
        self.files = files
        self.size = size
        self.resize = resize
        self.workers = workers
        self.interpolation = interpolation

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Decode the images of rows int64 (m,): uint8 (m, size, size, 3).

        Raises:
            InvalidInputError: an image cannot be read; the message names it.
        """
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)

        def decode(place: int) -> None:
            file = self.files[rows[place]]
            try:
                images[place] = read_image(file, self.size, interpolation=self.interpolation, resize=self.resize)
            except Exception as error:  # Pillow's decoders raise many types for damaged files
                raise InvalidInputError(f"{file} cannot be read ({error}); repair it or remove it.") from error

        for _ in self._pool.map(decode, range(len(rows))):
            pass
        return images

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(count_workers(self.workers), "images")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pool"}


@final
class PixelRows(FileRows):
    """Pixels (n, 3 · size²) of image files, which are decoded whenever they are read.

    Only the images of one block or batch are in memory. Indexing gives brightness in [0, 1], the features of
    `Pixels`; `read_bytes` gives 8-bit pixels, which a quarter of the memory holds.

    Args:
        images: the image files.
        rows: rows of the files, int64 (n,), in this order; None for all.
    """

    block_images = BLOCK_IMAGES

    def __init__(self, images: ImageFiles, rows: Tensor | None = None) -> None:
        super().__init__((len(images.files), 3 * images.size**2), rows)
        self.images = images

    def read_bytes(self, key: Any) -> Tensor:
        """Read 8-bit pixels of rows, uint8 (m, d), for an index of several rows."""
        places = self._find_places(key)
        return torch.from_numpy(self.images.read(places).reshape(len(places), self.shape[1]))

    def blocks(self, size: int) -> Iterator[Tensor]:
        """Yield 8-bit pixels in blocks of at most `size` and 256 rows; the next block is decoded in the meantime."""
        step = min(size, self.block_images)
        starts = range(0, len(self), step)
        return prefetch((self.read_bytes(slice(start, start + step)) for start in starts), depth=1)

    def _read(self, rows: np.ndarray) -> Tensor:
        return to_brightness(torch.from_numpy(self.images.read(rows).reshape(len(rows), self.shape[1])))

    def _subset(self, rows: Tensor) -> "PixelRows":
        return PixelRows(self.images, rows)


def stream_pixels(files: Sequence[Path], descriptor: Descriptor, workers: int | None = None) -> PixelRows | None:
    """Return the pixels of image files as rows that are decoded when they are read; None for other descriptors.

    Args:
        files: n image files.
        descriptor: descriptor of the images, with an image size.
        workers: number of threads that decode; None for one per core.
    """
    if not isinstance(descriptor, Pixels):
        return None
    assert descriptor.image_size is not None
    return PixelRows(ImageFiles(files, descriptor.image_size, descriptor.resize, workers, descriptor.interpolation))


@final
class Thumbnails:
    """Small pictures of image files to show beside results, uint8 (n, side, side, 3), decoded when they are indexed.

    Args:
        images: the image files.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, images: ImageFiles) -> None:
        self._images = images
        self.shape = (len(images.files), images.size, images.size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Decode one picture (side, side, 3) for a row number, or several for an index array or a slice."""
        rows = np.arange(len(self))[key]
        return self._images.read(rows) if rows.ndim else self._images.read(rows[None])[0]
