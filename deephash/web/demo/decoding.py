"""Image files that somebody hands in, decoded by Pillow within bounds; and items' pictures as PNG."""

import io

import numpy as np

from deephash.data.image_decoding import TooManyPixelsError, read_image
from deephash.validation import InvalidInputError

# Pillow's names. Formats whose decoders are large, or start other programs, are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
FORMAT_WORDS = "JPEG, PNG, WebP, GIF or BMP"
# 40 megapixels take 120 MB while they are decoded; cameras give 12 to 50.
MAX_PIXELS = 40_000_000
# Side in pixels of the largest picture of an item that is sent.
MAX_PICTURE = 256


def decoded_image(contents: bytes, side: int) -> np.ndarray:
    """The middle of an image, scaled to a side, upright, as `deephash encode` takes it from a folder.

    Args:
        contents: of the file.
        side: in pixels.

    Returns:
        uint8 (side, side, 3).

    Raises:
        InvalidInputError: no image of the formats that are taken, a damaged one, or one of too many pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return read_image(io.BytesIO(contents), side, FORMATS, MAX_PIXELS)
    except UnidentifiedImageError as error:
        raise InvalidInputError(f"This file is no image that can be read; choose a {FORMAT_WORDS} file.") from error
    except (TooManyPixelsError, Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise InvalidInputError(
            f"This image has more than the {MAX_PIXELS // 10**6} megapixels that are taken; choose a smaller one."
        ) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"This image cannot be taken: {error}.") from error
    except Exception as error:  # Pillow's decoders raise all sorts for damaged files
        raise InvalidInputError("This image is damaged and cannot be decoded; choose another.") from error


def png(image: np.ndarray) -> bytes:
    """An item's picture, made smaller where it is large.

    Args:
        image: uint8 (h, w) or (h, w, 3).
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((MAX_PICTURE, MAX_PICTURE))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
