"""Decoding of uploaded images by Pillow, with limits."""

import io

import numpy as np

from deephash.data.image_decoding import TooManyPixelsError, read_image
from deephash.validation import InvalidInputError

# Pillow's names of the accepted formats. Decoders of others are large or start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
FORMAT_WORDS = "JPEG, PNG, WebP, GIF or BMP"
# 40 megapixels take 120 MB during decoding; cameras produce 12 to 50.
MAX_PIXELS = 40_000_000


def decode_image(contents: bytes, side: int, interpolation: str = "bilinear", resize: int | None = None) -> np.ndarray:
    """Return the upright central square of an image, scaled to a side, as `deephash encode` prepares image files.

    Args:
        contents: contents of the file.
        side: side in pixels.
        interpolation: bilinear or bicubic.
        resize: length to which the shorter side is scaled before cropping; None for `side`.

    Returns:
        uint8 (side, side, 3).

    Raises:
        InvalidInputError: the file is not an image of an accepted format, is damaged, or has too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return read_image(io.BytesIO(contents), side, FORMATS, MAX_PIXELS, interpolation, resize)
    except UnidentifiedImageError as error:
        raise InvalidInputError(f"This file is not a readable image; choose a {FORMAT_WORDS} file.") from error
    except (TooManyPixelsError, Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise InvalidInputError(
            f"This image has more than {MAX_PIXELS // 10**6} megapixels; choose a smaller one."
        ) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"This image cannot be used: {error}.") from error
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        raise InvalidInputError("This image is damaged and cannot be decoded; choose another.") from error
