"""Images as flat rows."""

import pytest
import torch

from deephash.functional.flat_images import as_images, image_shape
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((3072,), (3, 32, 32)),
        ((784,), (1, 28, 28)),
        ((3,), (3, 1, 1)),
        ((1,), (1, 1, 1)),
        ((400, 4), (4, 10, 10)),
        ((24, 1, 3), (1, 3, 8)),
        ((24, 1, None, 3), (1, 8, 3)),
        ((24, None, 2), (3, 2, 4)),
        ((24, 2, 3, 4), (2, 3, 4)),
        ((20, None, 4), (1, 4, 5)),
    ],
)
def test_what_is_not_given_follows(given, expected):
    assert image_shape(*given) == expected


@pytest.mark.parametrize(
    "given", [(512,), (10, 3), (24, 1, 5), (24, 2, 3, 5), (2, 3), (24, 1, 100), (24, 1, None, 100)]
)
def test_other_features_are_no_images(given):
    with pytest.raises(InvalidInputError, match=rf"{given[0]} features are not images with .*choose data of pixels"):
        image_shape(*given)


def test_bad_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="height=0; expected a whole number of at least 1"):
        image_shape(24, height=0)


def test_no_two_readings_of_a_number():
    readings = [d for d in range(1, 20_000) if any(3 * a * a == d for a in range(90)) and int(d**0.5) ** 2 == d]
    assert readings == []


def test_images_share_memory_with_their_rows():
    features = torch.rand(5, 24)
    images = as_images(features, (3, 2, 4))
    for n, c, h, w in torch.cartesian_prod(*(torch.arange(size) for size in (5, 3, 2, 4))).tolist():
        assert images[n, c, h, w] == features[n, h * 12 + w * 3 + c]
    assert images.data_ptr() == features.data_ptr()
