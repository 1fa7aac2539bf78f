"""The small convolutional network."""

import pytest
import torch
from torch.nn import functional

from deephash.data.descriptors.pixels import Pixels
from deephash.encoders.convolutional import Convolutional, whitening_filters
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth_images(n=200, channels=3, side=16, seed=0):
    """Images whose neighbouring pixels are alike, in [0, 1], as (n, c, h, w)."""
    coarse = torch.rand(n, channels, 5, 5, generator=generator(seed), dtype=torch.float64)
    return functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=True)


def flat(images):
    return images.permute(0, 2, 3, 1).flatten(1)


def test_it_reads_images_as_the_pixel_descriptor_lays_them_out():
    pixels = torch.randint(256, (4, 12, 10, 3), generator=generator(), dtype=torch.uint8)
    features = Pixels().describe(pixels.numpy())
    images = Convolutional(360, [4, 4], height=12).images(features)
    assert torch.allclose(images, pixels.permute(0, 3, 1, 2) / 255)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_filters_whiten_patches(channels):
    images = smooth_images(channels=channels)
    images = images - images.mean((0, 2, 3), keepdim=True)
    filters = whitening_filters(images)
    assert filters.shape == (8 * channels, channels, 2, 2)
    assert torch.equal(filters[: 4 * channels], -filters[4 * channels :])
    outputs = functional.conv2d(images, filters[: 4 * channels]).transpose(0, 1).flatten(1)
    moments = outputs @ outputs.T / outputs.shape[1]
    assert float((moments - moments.diag().diag()).abs().max()) < 1e-8, "outputs are uncorrelated"
    assert bool((moments.diag() < 1).all())
    assert float(moments.diag().max()) > 0.95, "and of variance 1, less where there is little to enlarge"


def test_the_network_starts_with_the_statistics_of_the_data():
    features = flat(smooth_images())
    encoder = Convolutional(768, [6, 8]).double().fit(features, generator())
    reached = {}
    for name, layer in encoder.blocks.named_modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_hook(lambda _, __, output, name=name: reached.update({name: output}))
    with torch.no_grad():
        encoder.eval()(features)
    assert len(reached) == 4
    for output in reached.values():
        assert float(output.mean((0, 2, 3)).abs().max()) < 1e-3
        assert torch.allclose(output.var((0, 2, 3)), torch.ones(output.shape[1]).double(), atol=1e-2)
    # The running average of training goes on from there, as before.
    assert all(m.momentum == 0.1 for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_scale_of_the_pixels_does_not_matter():
    features = flat(smooth_images())
    one, other = (Convolutional(768, [6]).double().fit(s * features, generator()).eval() for s in (1, 255))
    assert torch.allclose(one(features), other(255 * features), atol=1e-6)


def test_many_images_pass_in_blocks_to_the_same_result():
    features = flat(smooth_images(n=300)).float()
    encoder = Convolutional(768, [6]).fit(features, generator()).eval()
    with torch.no_grad():
        assert torch.allclose(
            encoder(features), torch.cat([encoder(features[:100]), encoder(features[100:])]), atol=1e-5
        )


def test_it_learns_what_pixels_do_not_say():
    """Whether stripes lie or stand, at any place: the mean image of both classes is grey."""
    labels = torch.arange(200) % 2
    phase = 6.3 * torch.rand(200, 1, 1, generator=generator())
    wave = torch.sin(torch.arange(16.0)[None, :, None] * 1.5 + phase).expand(200, 16, 16)
    features = (0.5 + 0.5 * torch.where(labels[:, None, None] == 0, wave, wave.mT)).flatten(1)
    encoder = Convolutional(256, [8, 8]).fit(features, generator())
    head = torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        functional.cross_entropy(head(encoder(features[:100])), labels[:100]).backward()
        optimizer.step()
    right = head(encoder.eval()(features[100:])).argmax(1) == labels[100:]
    assert float(right.float().mean()) > 0.95


def test_bad_settings_are_refused():
    with pytest.raises(InvalidInputError, match="500 features are not images with 3 channels or 1 and equal sides"):
        Convolutional(500)
    with pytest.raises(InvalidInputError, match=r"images of 4 × 4 are too small for 2 blocks.*at least 5 × 5"):
        Convolutional(48, [4, 4])
    assert Convolutional(75, [4, 4]).fit(torch.rand(9, 75), generator())(torch.rand(2, 75)).shape == (2, 4)
    with pytest.raises(InvalidInputError, match="expected a list of at least one width"):
        Convolutional(3072, [])
    with pytest.raises(InvalidInputError, match="1 training images; normalisation needs at least 2"):
        Convolutional(768, [4]).fit(torch.rand(1, 768), generator())
    with pytest.raises(InvalidInputError, match="all training images have one plain colour"):
        Convolutional(768, [4]).fit(torch.full((9, 768), 0.5), generator())
