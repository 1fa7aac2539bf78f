"""Conversion between images and flat rows of features, pixel after pixel: (r, g, b, r, g, b, ...), row by row."""

import math

from torch import Tensor

from deephash.validation import InvalidInputError, check_count


def image_shape(
    input_dim: int, channels: int | None = None, height: int | None = None, width: int | None = None
) -> tuple[int, int, int]:
    """Infer channels, height and width of images given as rows of `input_dim` values.

    Arguments that are None follow from the rest. If all three are None, images are square with three channels or one:
    3a² = b² has no solution in integers, so this is unambiguous.

    Args:
        input_dim: number of values of an image.
        channels: number of channels c.
        height: height h in pixels.
        width: width w in pixels.

    Returns:
        (c, h, w) with c · h · w = input_dim.

    Raises:
        InvalidInputError: no images of these sizes have `input_dim` values.
    """
    for name, value in (("channels", channels), ("height", height), ("width", width)):
        if value is not None:
            check_count(value, name)
    for c in (3, 1) if channels is None else (channels,):
        pixels = input_dim // c
        h = height or (pixels // width if width else math.isqrt(pixels))
        w = width or pixels // max(1, h)
        square = bool(height or width) or h == w
        if square and c * h * w == input_dim:
            return c, h, w
    settings = {"channels": channels, "height": height, "width": width}
    named = ", ".join(f"{name}={value}" for name, value in settings.items() if value is not None)
    raise InvalidInputError(
        f"{input_dim} features are not images with {named or '3 channels or 1 and equal sides'}; choose data of "
        "pixels, such as data=image_folder_pixels or data=cifar10, or give the channels, height and width of its "
        "images."
    )


def as_images(features: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """View rows as images, without moving a value: the result is in the memory format channels_last.

    Args:
        features: (n, h · w · c).
        shape: (c, h, w).

    Returns:
        (n, c, h, w).
    """
    channels, height, width = shape
    return features.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
