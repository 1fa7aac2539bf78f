import numpy as np
import pytest
import torch

from deephash.data.descriptors.pixels import Pixels
from deephash.validation import InvalidInputError


def test_pixels_are_brightnesses_row_by_row():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    features = Pixels().describe(images)
    assert features.dtype == torch.float32
    assert torch.allclose(features * 255, torch.arange(24.0).view(2, 12) * 10)
    assert torch.equal(Pixels().describe(np.full((1, 2, 2), 255, np.uint8)), torch.ones(1, 4))


def test_what_is_no_image_is_refused():
    with pytest.raises(InvalidInputError, match=r"images have shape \(2, 3\); expected \(n, height, width\)"):
        Pixels().describe(np.zeros((2, 3), np.uint8))
    with pytest.raises(InvalidInputError, match="image_size=0"):
        Pixels(0)
