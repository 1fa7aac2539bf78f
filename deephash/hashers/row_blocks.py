"""Blocks of features of any kind, for fits and encoding in bounded memory."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from deephash.data.file_rows import FileRows
from deephash.data.streamed_images import PixelRows, to_brightness
from deephash.io.progress import track
from deephash.validation import InvalidInputError, to_floating

# Bytes of the sample of images on which encoders are fitted: 890 images of 224 × 224 pixels, all of 43,000 of 32 × 32.
SAMPLE_BYTES = 1 << 29


def iterate_blocks(rows: Any, size: int, device: torch.device, description: str = "") -> Iterator[Tensor]:
    """Yield floating blocks of rows on a device, at least one.

    Args:
        rows: features (n, d): a tensor, an array or `FileRows`. Images in files are decoded while a block is used.
        size: maximum number of rows in a block.
        device: device of the blocks.
        description: label of a progress bar; empty for none.
    """
    if isinstance(rows, PixelRows) and len(rows):
        blocks = rows.blocks(size)
        total = -(-len(rows) // min(size, rows.block_images))
        for pixels in track(blocks, description, total) if description else blocks:
            yield to_brightness(pixels.to(device))
        return
    starts = range(0, max(len(rows), 1), size)
    for start in track(starts, description) if description else starts:
        yield to_floating(rows[start : start + size]).to(device)


def sample_rows(features: Tensor | FileRows) -> Tensor:
    """Return features in memory: of `FileRows`, evenly spaced rows of at most 512 MB.

    Items are often ordered by class, so evenly spaced rows have all classes.
    """
    if not isinstance(features, FileRows):
        return features
    most = max(2, SAMPLE_BYTES // (4 * features.shape[1]))
    if len(features) <= most:
        return features[:]
    return features[torch.linspace(0, len(features) - 1, most).long()]


def check_file_rows(features: FileRows, dimension: int) -> None:
    """Raise an error for features in files of another dimension, or none.

    Raises:
        InvalidInputError: the message has the dimensions.
    """
    if features.shape[1] != dimension:
        raise InvalidInputError(
            f"features have {features.shape[1]} dimensions; expected {dimension}, the number this was built for."
        )
