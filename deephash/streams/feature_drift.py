"""A stream of images that rotate, brighten or become noisy before they are described."""

import math
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from deephash.data.descriptors.base import Descriptor
from deephash.data.items import Items
from deephash.streams.base import Stream
from deephash.validation import InvalidInputError, check_choice, check_fraction, check_number


def rotate(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate images about their centres, and fill empty corners by reflection.

    Args:
        images: uint8 (n, h, w) or (n, h, w, 3), square.
        degrees: angle, anticlockwise.

    Returns:
        uint8, the same shape.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    planes = torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2).float()
    turn = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], dtype=torch.float32).expand(len(planes), 2, 3)
    grid = affine_grid(turn, list(planes.shape), align_corners=False)
    rotated = grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    rotated = rotated.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    result: np.ndarray = rotated.reshape(images.shape).numpy()
    return result


def brighten(images: np.ndarray, levels: float) -> np.ndarray:
    """Add grey levels to images, clipped to black and white.

    Args:
        images: uint8.
        levels: grey levels to add, on the scale from 0 to 255; negative levels darken.

    Returns:
        uint8, the same shape.
    """
    return np.clip(images.astype(np.int16) + round(levels), 0, 255).astype(np.uint8)


def add_noise(images: np.ndarray, levels: float, rows: Tensor, seed: int) -> np.ndarray:
    """Add Gaussian noise to images, each with its own seed.

    Args:
        images: uint8 (n, ...).
        levels: standard deviation in grey levels.
        rows: int64 (n,), rows of the images, which determine their noise together with the seed.
        seed: seed of all noise.

    Returns:
        uint8, the same shape.
    """
    noise = np.stack(
        [np.random.default_rng([seed, row]).standard_normal(images.shape[1:], np.float32) for row in rows.tolist()]
    )
    result: np.ndarray = np.clip(np.rint(images + levels * noise), 0, 255).astype(np.uint8)
    return result


KINDS = ("rotation", "brightness", "noise")


@final
class FeatureDrift(Stream):
    """Stream with equal shares of all classes, and images whose appearance changes gradually.

    The change grows linearly from `begin` to `end` and stays at its full size. Queries change like arriving items; the
    database holds images as they arrived.

    Args:
        length: number of items in the stream.
        kind: "rotation" in degrees, "brightness" in grey levels, or "noise" as a standard deviation in grey levels.
        size: size of the full change in that unit.
        begin: share of the stream at which the change begins.
        end: share of the stream at which the change is full.

    Raises:
        InvalidInputError: the kind is unknown, the size is not a number, the shares are outside 0 to 1 or out of order,
            or the data lack images or a descriptor.
    """

    by_class: ClassVar[bool] = False

    def __init__(
        self, length: int = 10_000, kind: str = "rotation", size: float = 90.0, begin: float = 0.4, end: float = 0.6
    ) -> None:
        super().__init__(length)
        check_choice(kind, KINDS, "stream.kind")
        check_number(size, "stream.size")
        check_fraction(begin, "stream.begin")
        check_fraction(end, "stream.end")
        if end < begin:
            raise InvalidInputError(f"stream.end={end} is before stream.begin={begin}; give a later end.")
        self.kind = kind
        self.size = size
        self.begin = begin
        self.end = end

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """Return equal shares of all classes."""
        return torch.full((len(positions), classes), 1 / classes, dtype=torch.float64)

    def changes(self, classes: int) -> list[int]:
        """Return the position at which the drift begins."""
        return [round(self.begin * self.length)]

    def level(self, position: int) -> float:
        """Return the share of the full change at a position."""
        progress = position / self.length
        if progress >= self.end:
            return 1.0
        return 0.0 if progress <= self.begin else (progress - self.begin) / (self.end - self.begin)

    def features(self, items: Items, rows: Tensor, position: int, descriptor: Descriptor | None, seed: int) -> Tensor:
        """Return the descriptions of the changed images."""
        size = self.level(position) * self.size
        if size == 0:
            return super().features(items, rows, position, descriptor, seed)
        assert items.images is not None
        assert descriptor is not None
        images = np.ascontiguousarray(items.images[rows.numpy()])
        if self.kind == "noise":
            return descriptor.describe(add_noise(images, size, rows, seed))
        return descriptor.describe(rotate(images, size) if self.kind == "rotation" else brighten(images, size))

    def check(self, items: Items, descriptor: Descriptor | None) -> None:
        """Raise an error if the data lack images or a descriptor for them."""
        if items.images is None or descriptor is None:
            raise InvalidInputError(
                "stream=feature_drift changes images before they are described, and the data have none to describe; "
                "choose data=cifar10_gist, or another stream."
            )
