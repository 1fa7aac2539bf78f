"""GIST of mirrored images."""

import numpy as np
import pytest
import torch

from deephash.augmentations.mirrored_gist import MirroredGIST
from deephash.data.descriptors.gist import Gist
from deephash.functional.gist_mirror import mirror_permutation
from deephash.validation import InvalidInputError


@pytest.mark.parametrize(("orientations", "blocks"), [((8, 8, 8, 8), 4), ((6, 3, 1), 2)])
def test_it_gives_what_the_descriptor_gives_of_the_mirrored_image(orientations, blocks):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    descriptor = Gist(orientations_per_scale=orientations, blocks=blocks)
    gist, mirrored = (descriptor.describe(np.ascontiguousarray(given)) for given in (images, images[:, :, ::-1]))
    augmentation = MirroredGIST(gist.shape[1], flip=1, orientations_per_scale=orientations, blocks=blocks)
    size = (gist - gist.mean(0)).abs().mean()
    assert float((augmentation(gist) - mirrored).abs().mean() / size) < 0.02
    assert float((gist - mirrored).abs().mean() / size) > 0.2


def test_mirroring_twice_is_nothing():
    for orientations, blocks in (((8, 8, 8, 8), 4), ((5,), 3)):
        places = mirror_permutation(orientations, blocks)
        assert torch.equal(places[places], torch.arange(len(places)))


def test_share_of_mirrored_items():
    torch.manual_seed(0)
    features = torch.rand(1, 512).expand(2000, -1)
    flipped = (MirroredGIST(512, flip=0.25)(features) != features).any(1)
    assert float(flipped.float().mean()) == pytest.approx(0.25, abs=0.03)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match=r"960 features are not a GIST of .*blocks=4, which has 512"):
        MirroredGIST(960)
    with pytest.raises(InvalidInputError, match="flip=2; expected a number from 0 to 1"):
        MirroredGIST(512, flip=2)
    with pytest.raises(InvalidInputError, match="orientations_per_scale=0; expected a whole number"):
        MirroredGIST(512, orientations_per_scale=[0, 32])
