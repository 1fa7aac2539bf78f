"""How large the body of a request may be."""

# A photograph of a large camera; Pillow's own bound on pixels comes after.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
# Letters of a text have at most four bytes each.
MAX_TEXT_BYTES = 40_000


def max_body(path: str) -> int:
    """Bytes that the body of a request to a path may have."""
    return MAX_IMAGE_BYTES if path.endswith("/neighbours/image") else MAX_TEXT_BYTES
