"""A stream of images that change before they are described: turned, brighter, noisier."""

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


def rotated(images: np.ndarray, degrees: float) -> np.ndarray:
    """Images turned about their centres, mirrored where the corners would be empty.

    Args:
        images: uint8 (n, h, w) or (n, h, w, 3), square.
        degrees: anticlockwise.

    Returns:
        uint8, the same shape.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    planes = torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2).float()
    turn = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], dtype=torch.float32).expand(len(planes), 2, 3)
    grid = affine_grid(turn, list(planes.shape), align_corners=False)
    turned = grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    turned = turned.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    result: np.ndarray = turned.reshape(images.shape).numpy()
    return result


def brightened(images: np.ndarray, levels: float) -> np.ndarray:
    """Images with so many grey levels added, white where they would exceed it, black where they would fall below.

    Args:
        images: uint8.
        levels: of 255; below 0 they darken.

    Returns:
        uint8, the same shape.
    """
    return np.clip(images.astype(np.int16) + round(levels), 0, 255).astype(np.uint8)


def noisy(images: np.ndarray, levels: float, rows: Tensor, seed: int) -> np.ndarray:
    """Images with Gaussian noise, each by its own seed.

    Args:
        images: uint8 (n, ...).
        levels: standard deviation in grey levels.
        rows: int64 (n,), the images' numbers, from which their noise follows with the seed.
        seed: of all noise.

    Returns:
        uint8, the same shape.
    """
    noise = np.stack(
        [np.random.default_rng([seed, row]).standard_normal(images.shape[1:], np.float32) for row in rows.tolist()]
    )
    changed: np.ndarray = np.clip(np.rint(images + levels * noise), 0, 255).astype(np.uint8)
    return changed


KINDS = ("rotation", "brightness", "noise")


@final
class FeatureDrift(Stream):
    """All classes alike, while the images change from one way of looking to another.

    Nothing changes up to `begin` of the stream; from there to `end` the change grows evenly to its full size, and
    stays. Queries look as items do at the time: what is searched are the images as they once arrived.

    Args:
        length: items of the stream.
        kind: "rotation" in degrees, "brightness" in grey levels, or "noise" by its standard deviation in them.
        size: of the full change, in that unit.
        begin: share of the stream before it begins.
        end: share of the stream after which it is full.

    Raises:
        InvalidInputError: another kind, a size that is no number, shares outside 0 to 1 or out of order; data without
            images or without a descriptor of them.
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
            raise InvalidInputError(f"stream.end={end} lies before stream.begin={begin}; give a later end.")
        self.kind = kind
        self.size = size
        self.begin = begin
        self.end = end

    def shares(self, positions: Tensor, classes: int) -> Tensor:
        """The same of every class."""
        return torch.full((len(positions), classes), 1 / classes, dtype=torch.float64)

    def changes(self, classes: int) -> list[int]:
        """Where the drift begins."""
        return [round(self.begin * self.length)]

    def level(self, position: int) -> float:
        """Share of the full change at a position."""
        through = position / self.length
        if through >= self.end:
            return 1.0
        return 0.0 if through <= self.begin else (through - self.begin) / (self.end - self.begin)

    def features(self, items: Items, rows: Tensor, position: int, descriptor: Descriptor | None, seed: int) -> Tensor:
        """The descriptor's view of the changed images."""
        size = self.level(position) * self.size
        if size == 0:
            return super().features(items, rows, position, descriptor, seed)
        assert items.images is not None
        assert descriptor is not None
        images = np.ascontiguousarray(items.images[rows.numpy()])
        if self.kind == "noise":
            return descriptor.describe(noisy(images, size, rows, seed))
        return descriptor.describe(rotated(images, size) if self.kind == "rotation" else brightened(images, size))

    def check(self, items: Items, descriptor: Descriptor | None) -> None:
        """Raise an error for data without images, or whose features come from elsewhere."""
        if items.images is None or descriptor is None:
            raise InvalidInputError(
                "stream=feature_drift changes images before they are described, and the data have none to describe; "
                "choose data=cifar10_gist, or another stream."
            )
