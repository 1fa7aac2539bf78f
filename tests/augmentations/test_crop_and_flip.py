"""Images shifted, mirrored and cropped."""

import numpy as np
import pytest
import torch

from deephash.augmentations.crop_and_flip import CropAndFlip
from deephash.validation import InvalidInputError

SIDE = 6
IMAGE = np.arange(SIDE * SIDE * 3, dtype=np.float32).reshape(SIDE, SIDE, 3)


def all_crops(image, shift, flips=(False, True)):
    """Every crop of an image padded by its mirror image, and its mirror image, with NumPy's own padding."""
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            crop = padded[down : down + height, right : right + width]
            for flip in flips:
                yield (crop[:, ::-1] if flip else crop).tobytes()


@pytest.mark.parametrize(("shift", "flip", "flips"), [(2, 0.5, (False, True)), (1, 0, (False,)), (0, 1, (True,))])
def test_images_are_all_crops_of_mirror_padded_ones_and_no_other(shift, flip, flips):
    torch.manual_seed(0)
    count = 2000
    changed = CropAndFlip(SIDE * SIDE * 3, shift, flip)(torch.from_numpy(IMAGE).flatten().expand(count, -1))
    found = [image.numpy().tobytes() for image in changed]
    expected = set(all_crops(IMAGE, shift, flips))
    assert set(found) == expected
    most = max(found.count(one) for one in expected)
    assert most < 2 * count / len(expected) or len(expected) == 1, "every crop is as likely as any other"


def test_shapes_other_than_squares():
    image = np.random.default_rng(0).random((3, 8, 1), dtype=np.float32)
    torch.manual_seed(0)
    changed = CropAndFlip(24, shift=2, channels=1, height=3)(torch.from_numpy(image).flatten().expand(900, -1))
    assert {row.numpy().tobytes() for row in changed} == set(all_crops(image, 2))


def test_a_square_is_cut_at_every_place():
    torch.manual_seed(0)
    features = torch.from_numpy(IMAGE).flatten().expand(3000, -1)
    cut = (CropAndFlip(SIDE * SIDE * 3, shift=0, flip=0, cutout=3)(features) != features).reshape(-1, SIDE, SIDE, 3)
    mean = IMAGE.mean((0, 1))
    changed = CropAndFlip(SIDE * SIDE * 3, shift=0, flip=0, cutout=3)(features).reshape(-1, SIDE, SIDE, 3)
    values = torch.where(changed != features.reshape(changed.shape), changed, torch.from_numpy(mean))
    assert torch.allclose(values, torch.from_numpy(mean).expand_as(values))
    areas = cut.any(3).flatten(1).sum(1)
    assert set(areas.tolist()) == {4, 6, 9}, "a square of 3 × 3, a part of which may lie outside"
    assert bool(cut.any(3).any(0).all())


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="101 features are not images with channels=1, height=100"):
        CropAndFlip(101, channels=1, height=100)
    with pytest.raises(InvalidInputError, match="shift=6; expected a whole number from 0 to 5, for images of 6 × 6"):
        CropAndFlip(108, shift=6)
    with pytest.raises(InvalidInputError, match="cutout=-1; expected a whole number from 0 to 6"):
        CropAndFlip(108, cutout=-1)
    with pytest.raises(InvalidInputError, match=r"flip=1\.5; expected a number from 0 to 1"):
        CropAndFlip(108, flip=1.5)
