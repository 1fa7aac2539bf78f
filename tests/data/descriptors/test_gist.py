"""GIST against a plain transcription of the published steps, and its values on simple images."""

import numpy as np
import pytest
import torch

from deephash.data.descriptors.gist import Gist
from deephash.data.descriptors.gist_filters import block_averages, mirrored_pixels, transfer_functions
from deephash.validation import InvalidInputError


def plain_gist(image, border=32, blocks=4, orientations=(8, 8, 8, 8), cutoff=4):
    """One image at a time, in float64, with full FFTs: LMgist's steps, one by one."""
    grey = image.astype(float).mean(-1)
    grey = 255 * (grey - grey.min()) / (grey.max() - grey.min())
    padded = np.pad(np.log(grey + 1), 5, mode="symmetric")
    side = len(padded)
    padded = np.pad(padded, ((0, side % 2),) * 2, mode="symmetric")
    f = np.arange(len(padded)) - len(padded) // 2
    gauss = np.fft.ifftshift(np.exp(-(f[:, None] ** 2 + f[None] ** 2) * np.log(2) / cutoff**2))
    detail = padded - np.fft.ifft2(np.fft.fft2(padded) * gauss).real
    contrast = np.sqrt(np.abs(np.fft.ifft2(np.fft.fft2(detail**2) * gauss)))
    white = (detail / (0.2 + contrast))[5 : side - 5, 5 : side - 5]

    spectrum = np.fft.fft2(np.pad(white, border, mode="symmetric"))
    n = len(spectrum)
    f = np.arange(n) - n // 2
    radius = np.fft.ifftshift(np.hypot(f[:, None], f[None]))
    angle = np.fft.ifftshift(np.arctan2(f[:, None], f[None] + 0.0 * f[:, None]))
    size = len(white)
    edges = [size * i // blocks for i in range(blocks + 1)]
    energies = []
    for scale, count in enumerate(orientations):
        for k in range(count):
            turned = angle + np.pi * k / count
            turned -= 2 * np.pi * (turned > np.pi)
            gain = np.exp(
                -10 * 0.35 * (radius / n / (0.3 / 1.85**scale) - 1) ** 2
                - 2 * np.pi * (16 * count**2 / 32**2) * turned**2
            )
            response = np.abs(np.fft.ifft2(spectrum * gain))[border : border + size, border : border + size]
            for column in range(blocks):
                for row in range(blocks):
                    block = response[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
                    energies.append(block.mean())
    return np.array(energies)


@pytest.fixture(scope="module")
def images(cifar10_npz):
    with np.load(cifar10_npz) as stored:
        return stored["images"][::5000]


def grating(degrees, size=64, period=8):
    """A sine grating whose brightness varies along a direction, as grey images are: uint8 (1, size, size)."""
    y, x = np.mgrid[:size, :size]
    direction = np.deg2rad(degrees)
    wave = np.sin(2 * np.pi * (x * np.cos(direction) + y * np.sin(direction)) / period)
    return np.round(127.5 + 127.5 * wave).astype(np.uint8)[None]


def by_filter(features):
    """(scale, orientation, column, row)."""
    return features.view(4, 8, 4, 4)


@pytest.mark.data
@pytest.mark.parametrize("size", [32, 31, 20])
def test_equals_the_plain_computation_on_real_images(images, size):
    cropped = np.ascontiguousarray(images[:, :size, :size])
    expected = np.stack([plain_gist(image) for image in cropped])
    found = Gist().describe(cropped)
    assert found.shape == (len(images), 512)
    assert found.dtype == torch.float32
    # The mean feature is about 0.04.
    assert np.abs(found.numpy() - expected).max() < 3e-6


@pytest.mark.data
def test_equals_the_plain_computation_with_other_parameters(images):
    gist = Gist(orientations_per_scale=(6, 4), blocks=3, cutoff=2.5, border=10)
    expected = np.stack([plain_gist(image, 10, 3, (6, 4), 2.5) for image in images])
    assert np.abs(gist.describe(images).numpy() - expected).max() < 3e-6


@pytest.mark.data
def test_does_not_depend_on_the_other_images_or_on_threads(images):
    many = np.concatenate([images] * 4)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        whole = Gist().describe(many)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        assert torch.equal(Gist().describe(many), whole)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(Gist().describe(images[3:4])[0], whole[3], atol=1e-6, rtol=0)


def test_threads_are_given_back():
    threads = torch.get_num_threads()
    Gist().describe(np.zeros((3, 16, 16), np.uint8))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_image_has_no_energy(value):
    features = Gist().describe(np.full((2, 32, 32, 3), value, np.uint8))
    assert features.abs().max() == 0


def test_grey_images_equal_colour_images_of_equal_channels():
    grey = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    assert torch.equal(Gist().describe(grey), Gist().describe(np.repeat(grey[..., None], 3, -1)))


@pytest.mark.parametrize("k", range(8))
def test_a_grating_excites_its_own_orientation(k):
    # Orientation k passes frequencies at the angle -180° k / 8, which is the direction of the waves.
    energy = by_filter(Gist().describe(grating(-180 * k / 8)))[..., 1:3, 1:3].mean((2, 3))
    assert int(energy.sum(0).argmax()) == k
    across = energy[:, (k + 4) % 8].sum()
    assert energy[:, k].sum() > 5 * across


def test_finer_gratings_excite_finer_scales():
    best = [
        int(by_filter(Gist().describe(grating(0, 96, period)))[:, 0].mean((1, 2)).argmax()) for period in (3, 6, 11)
    ]
    assert best == [0, 1, 2]


def test_texture_in_one_corner_is_seen_in_its_block():
    image = np.full((1, 64, 64), 128, np.uint8)
    image[0, 48:, :16] = grating(0)[0, :16, :16]
    energy = by_filter(Gist().describe(image)).sum((0, 1))
    column, row = divmod(int(energy.argmax()), 4)
    assert (column, row) == (0, 3)


def test_shifting_a_pattern_within_its_block_hardly_changes_features():
    def patch(left):
        image = np.full((1, 128, 128), 128, np.uint8)
        image[0, 40:56, left : left + 16] = grating(0, period=4)[0, :16, :16]
        return Gist().describe(image)[0]

    start, within, away = patch(40), patch(44), patch(104)
    assert (start - within).norm() < 0.25 * start.norm()
    assert (start - away).norm() > 0.8 * start.norm()


def test_mirrored_borders_are_those_of_numpy():
    x = np.arange(5)
    for before, after in ((0, 0), (2, 1), (5, 5), (13, 8)):
        assert (x[mirrored_pixels(5, before, after).numpy()] == np.pad(x, (before, after), mode="symmetric")).all()


def test_transfer_functions_tile_the_spectrum_without_gaps():
    n = 96
    cover = transfer_functions(n, (8, 8, 8, 8)).amax(0)
    cover = torch.maximum(cover[1:, 1:], cover[1:, 1:].flip(0, 1))  # a real image's spectrum is symmetric
    f = torch.arange(-n // 2 + 1, n // 2)
    radius = torch.hypot(f[:, None].float(), f[None].float())
    assert cover[(radius > 0.05 * n) & (radius < 0.4 * n)].min() > 0.5


def test_block_averages_cover_every_pixel_once():
    averages = block_averages(30, 4)
    assert torch.allclose(averages.sum(1), torch.ones(4))
    assert ((averages > 0).sum(0) == 1).all()


@pytest.mark.parametrize(
    ("images", "parameters", "message"),
    [
        (np.zeros((2, 32, 30, 3), np.uint8), {}, "images are 30 × 32 pixels; expected square images: set image_size."),
        (np.zeros((2, 32, 32), np.uint8), {"image_size": 64}, "square images of image_size=64: scale them first"),
        (np.zeros((2, 3, 3), np.uint8), {}, "images are 3 pixels wide; expected at least the number of blocks, 4"),
        (np.zeros((2, 32, 32), np.float32), {}, "images are float32; expected a NumPy array of dtype uint8"),
        (np.zeros((2, 32, 32, 4), np.uint8), {}, r"images have shape \(2, 32, 32, 4\); expected \(n, height, width\)"),
        ([1, 2], {}, "images are list; expected a NumPy array"),
    ],
)
def test_what_is_no_image_is_refused(images, parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        Gist(**parameters).describe(images)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"orientations_per_scale": ()}, r"orientations_per_scale=\[\]; expected at least one scale"),
        ({"orientations_per_scale": (8, 0)}, r"orientations_per_scale=\[8, 0\]"),
        ({"blocks": 0}, "blocks=0; expected a"),
        ({"border": -1}, "border=-1; expected 0 pixels or more"),
        ({"cutoff": 0}, "cutoff=0; expected a"),
        ({"image_size": -5}, "image_size=-5; expected a"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        Gist(**parameters)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_up_to_rounding():
    images = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    torch.testing.assert_close(Gist(device="cuda").describe(images), Gist().describe(images), atol=1e-5, rtol=0)
