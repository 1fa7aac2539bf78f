"""GIST that is equal for an image and its mirror image."""

import pytest
import torch

from deephash.augmentations.mirrored_gist import MirroredGIST
from deephash.encoders.symmetric_gist import SymmetricGIST
from deephash.validation import InvalidInputError


def generator():
    return torch.Generator().manual_seed(0)


def test_means_of_roots_by_loops():
    gist = torch.rand(5, 2 * 4, generator=generator(), dtype=torch.float64) - 0.2
    encoder = SymmetricGIST(8, orientations_per_scale=[2], blocks=2).double().fit(gist, generator())
    roots = (gist.sign() * gist.abs().sqrt()).reshape(5, 2, 2, 2)
    expected = torch.zeros(5, 2, 2, 2, dtype=torch.float64)
    # Of two orientations each is its own mirror image: only columns change places.
    for column in range(2):
        expected[:, :, column] = (roots[:, :, column] + roots[:, :, 1 - column]) / 2
    assert torch.allclose(encoder(gist), expected.reshape(5, 8))


def test_an_image_and_its_mirror_image_are_the_same():
    gist = torch.rand(9, 512, generator=generator())
    mirrored = MirroredGIST(512, flip=1)(gist)
    assert not torch.equal(mirrored, gist)
    for power in (0.5, 1.0):
        encoder = SymmetricGIST(512, power=power).fit(gist, generator())
        assert torch.equal(encoder(mirrored), encoder(gist))


def test_a_linear_map_of_it_is_the_mean_over_both_images():
    gist = torch.rand(9, 512, generator=generator(), dtype=torch.float64)
    weights = torch.randn(512, 3, generator=generator(), dtype=torch.float64)
    margins = gist @ weights, MirroredGIST(512, flip=1)(gist) @ weights
    assert torch.allclose(SymmetricGIST(512, power=1.0)(gist) @ weights, sum(margins) / 2)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match=r"960 features are not a GIST of .*blocks=4, which has 512"):
        SymmetricGIST(960)
    with pytest.raises(InvalidInputError, match="power=0; expected"):
        SymmetricGIST(512, power=0)
