"""Features of a frozen encoder: equal to the encoder's output, computed once, and refused without weights."""

import functools
import importlib

import numpy as np
import pytest
import torch

from deephash.data.cache import read_or_describe
from deephash.validation import InvalidInputError

pytestmark = pytest.mark.needs("timm")

IMAGES = np.random.default_rng(0).integers(0, 256, (19, 24, 24, 3), dtype=np.uint8)
NETWORK = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    timm = importlib.import_module("timm")
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(timm.create_model(NETWORK, num_classes=7).state_dict(), path)
    return path


def describe_with(weights, **settings):
    from deephash.data.descriptors.network_features import NetworkFeatures
    from deephash.encoders.timm import Timm

    given = {"network": NETWORK, "weights": str(weights), "image_size": 32, **settings}
    return NetworkFeatures(functools.partial(Timm, **given))


def test_they_are_the_output_of_the_encoder(weights):
    from deephash.encoders.timm import Timm

    rows = torch.from_numpy(IMAGES.reshape(19, -1) / np.float32(255))
    encoder = Timm(24 * 24 * 3, NETWORK, str(weights), image_size=32).fit(rows, torch.Generator()).eval()
    features = describe_with(weights).describe(IMAGES)
    assert features.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(features, encoder(rows), atol=1e-4, rtol=1e-4)
    alone = torch.cat([describe_with(weights).describe(image[None]) for image in IMAGES[:3]])
    torch.testing.assert_close(alone, features[:3], atol=1e-5, rtol=1e-4)


def test_grey_images_are_three_equal_channels(weights):
    descriptor = describe_with(weights)
    grey = IMAGES[..., 0]
    torch.testing.assert_close(descriptor.describe(grey), descriptor.describe(np.stack([grey] * 3, -1)))


def test_they_are_computed_once(weights, tmp_path, monkeypatch):
    descriptor = describe_with(weights)
    first = read_or_describe(IMAGES, descriptor, tmp_path)
    monkeypatch.setattr(type(descriptor), "describe", lambda *_: pytest.fail("computed again"))
    assert torch.equal(read_or_describe(IMAGES, describe_with(weights), tmp_path), first)


@pytest.mark.parametrize("change", [{"image_size": 40}, {"crop": 0.5}, {"precision": "bfloat16"}])
def test_other_settings_are_other_features(weights, change):
    assert describe_with(weights, **change).parameters() != describe_with(weights).parameters()
    first, other = describe_with(weights).describe(IMAGES), describe_with(weights, **change).describe(IMAGES)
    assert not torch.allclose(first, other, rtol=1e-3)


def test_other_weights_are_other_features(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "weights.pt")
    assert describe_with(tmp_path / "weights.pt").contents() != describe_with(weights).contents()


def test_what_is_refused(weights):
    from deephash.data.descriptors.network_features import NetworkFeatures

    with pytest.raises(InvalidInputError, match="needs trained weights"):
        NetworkFeatures(functools.partial(describe_with(weights).encoder.func, network=NETWORK, weights=None)).describe(
            IMAGES
        )
    with pytest.raises(InvalidInputError, match="expected a pretrained encoder"):
        NetworkFeatures(dict)


def test_normalisation_that_is_not_after_its_neighbour_is_not_merged():
    """The order of definition is not the order of application here, so that a merge would change the output."""
    from deephash.data.descriptors.network_features import merge_normalisation

    class Crossed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 3, 1)
            self.normalisation = torch.nn.BatchNorm2d(3)
            self.normalisation.running_mean.fill_(1)

        def forward(self, images):
            return self.convolution(self.normalisation(images)).mean((2, 3))

    network = Crossed().eval()
    assert merge_normalisation(network, 8) is network
