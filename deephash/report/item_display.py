"""Items as readers see them: class names, shortened texts and small pictures."""

import io
from collections.abc import Sequence

import numpy as np
from torch import Tensor


def format_classes(labels: Tensor | None, class_names: Sequence[str], item: int) -> str:
    """Return the class names of an item, separated by commas; empty without labels.

    Args:
        labels: class indices int64 (n,), indicator bool (n, c), or None.
        class_names: the c names. A class without a name is shown by its index.
        item: row of the data set.
    """
    if labels is None:
        return ""
    classes = [int(labels[item])] if labels.ndim == 1 else labels[item].nonzero().flatten().tolist()
    return ", ".join(class_names[number] if number < len(class_names) else str(number) for number in classes)


def shorten(text: str, characters: int) -> str:
    """Cut a text to a number of characters, and mark the cut with an ellipsis."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def encode_thumbnail(image: np.ndarray, max_side: int) -> bytes:
    """Encode an image as PNG, and reduce it if it is large.

    Args:
        image: uint8 (h, w) or (h, w, 3).
        max_side: largest side in pixels.
    """
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((max_side, max_side))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
