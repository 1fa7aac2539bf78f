"""Decoding of image files: every mode that Pillow reads becomes 8-bit RGB or raises an error that names the mode."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image as Pillow

MAX_IMAGE = 1 << 26
"""Pixels of the largest image that is decoded: 8,192 × 8,192, which need 200 MB as RGB."""

DECODING_VERSION = 2
"""Increased whenever the pixels of the same file change, so that cached features of the old pixels are not used."""

# Tags of TIFF: bits per sample, and the meaning of grey values (0: white is 0).
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
# Formats whose 16-bit grey Pillow returns as 32-bit integers from 0 to 65,535.
WIDENED_FORMATS = ("PNG", "PPM")


class TooManyPixelsError(InvalidInputError):
    """An image with more pixels than the limit."""


def list_image_formats() -> list[str]:
    """Return the formats that Pillow decodes itself, without PostScript, for which it starts another program."""
    from PIL import Image

    Image.init()
    return sorted(set(Image.OPEN) - {"EPS"})


def list_image_endings() -> tuple[str, ...]:
    """Return the file name endings of the formats that Pillow decodes itself, in lower case with dots."""
    from PIL import Image

    formats = set(list_image_formats())
    return tuple(ending for ending, kind in Image.registered_extensions().items() if kind in formats)


def read_image(
    file: Path | BinaryIO,
    size: int,
    formats: tuple[str, ...] | None = None,
    most_pixels: int = MAX_IMAGE,
    interpolation: str = "bilinear",
    resize: int | None = None,
) -> np.ndarray:
    """Read the central square of an upright image, scaled to side `size`, as uint8 (size, size, 3).

    Of several frames or pages, only the first is read.

    Args:
        file: the file, or its contents as a stream.
        size: side in pixels.
        formats: Pillow's names of the accepted formats; None accepts all that Pillow decodes itself.
        most_pixels: maximum number of pixels.
        interpolation: bilinear or bicubic.
        resize: length in pixels to which the shorter side is scaled before the square is cropped, at least `size`;
            None for `size`, so that the square reaches the borders.

    Raises:
        TooManyPixelsError: the header of the file claims more pixels.
        InvalidInputError: an image mode without a fixed black and white.
        Exception: errors of Pillow for an unreadable file, which have no common type.
    """
    from PIL import Image, ImageOps

    with Image.open(file, formats=list_image_formats() if formats is None else formats) as opened:
        if opened.width * opened.height > most_pixels:
            raise TooManyPixelsError(f"it claims {opened.width} × {opened.height} pixels, more than {most_pixels}")
        image = convert_to_rgb(opened, ImageOps.exif_transpose(opened))
    resampling = Image.Resampling[interpolation.upper()]
    if resize is None or resize == size:
        return np.array(ImageOps.fit(image, (size, size), resampling))
    side = min(image.size) * size / resize
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return np.array(image.resize((size, size), resampling, (left, top, left + side, top + side)))


def convert_to_rgb(opened: "Pillow.Image", upright: "Pillow.Image") -> "Pillow.Image":
    """Convert an image to 8-bit RGB, with transparent pixels over white.

    Grey of more than 8 bits is scaled so that black and white are kept: 16 bits by 1/257. Pillow itself reduces colours
    of more than 8 bits.

    Args:
        opened: the image as read, with the metadata of its format.
        upright: the same image, rotated upright.

    Raises:
        InvalidInputError: 32-bit integers, signed integers, floating-point values outside 0 to 1, or CIELAB colours.
    """
    from PIL import Image

    if upright.mode.startswith("I;16") or (upright.mode == "I" and opened.format in WIDENED_FORMATS):
        return _convert_integers(np.asarray(upright), opened)
    if upright.mode == "I":
        raise InvalidInputError(
            "its pixels are signed or 32-bit integers (mode I), which have no fixed white; save it with 8 or 16 "
            "unsigned bits"
        )
    if upright.mode == "F":
        values = np.asarray(upright)
        if not (values.min() >= 0 and values.max() <= 1):  # also true for NaN
            raise InvalidInputError(
                f"its pixels are floating-point values (mode F) from {values.min():g} to {values.max():g}; expected 0 "
                "(black) to 1 (white): scale them, or save it with 8 or 16 bits"
            )
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
    if upright.mode == "LAB":
        raise InvalidInputError("its colours are CIELAB (mode LAB), which are not converted; save it as RGB")
    if upright.mode == "La":
        upright = upright.convert("LA")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _convert_integers(values: np.ndarray, opened: "Pillow.Image") -> "Pillow.Image":
    """Convert grey of up to 16 bits. TIFF stores their number and whether 0 is white, PNG a transparent value."""
    from PIL import Image

    tags = getattr(opened, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    white = (1 << bits) - 1 if 8 < bits < 16 else 65535
    wide = values.astype(np.uint32)
    grey = ((np.minimum(wide, white) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:
        grey = 255 - grey
    transparent = opened.info.get("transparency")
    if isinstance(transparent, int):
        grey[wide == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
