"""The convolution over GIST's grid."""

import pytest
import torch

from deephash.encoders.grid_convolutional import GridConvolutional
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_convolution_over_blocks_by_loops():
    features = 3 + torch.randn(40, 2 * 9, generator=generator(1), dtype=torch.float64)
    encoder = GridConvolutional(18, channels=2, filters=3, hidden=5).double().fit(features, generator()).eval()
    grid = ((features - features.mean(0)) / features.std(0, correction=0)).reshape(40, 2, 3, 3)
    convolution, hidden = encoder.layers[1], encoder.layers[5]
    maps = torch.zeros(40, 3, 3, 3, dtype=torch.float64)
    for f in range(3):
        for i in range(3):
            for j in range(3):
                for u in range(max(0, i - 1), min(3, i + 2)):
                    for v in range(max(0, j - 1), min(3, j + 2)):
                        maps[:, f, i, j] += grid[:, :, u, v] @ convolution.weight[f, :, u - i + 1, v - j + 1].detach()
    expected = (maps.clamp_min(0).flatten(1) @ hidden.weight.T).clamp_min(0)
    assert torch.allclose(encoder(features), expected)


def test_gist_fits_by_default():
    encoder = GridConvolutional(512).fit(torch.rand(9, 512, generator=generator()), generator())
    assert encoder.side == 4
    assert encoder(torch.rand(3, 512)).shape == (3, 512)


def test_bad_settings_are_refused():
    for dimension in (500, 64, 31):
        with pytest.raises(InvalidInputError, match=f"{dimension} features are not a square grid of channels=32"):
            GridConvolutional(dimension)
    with pytest.raises(InvalidInputError, match="hidden=0; expected a whole number"):
        GridConvolutional(512, hidden=0)
    with pytest.raises(InvalidInputError, match="dropout=1 sets a whole layer to 0"):
        GridConvolutional(512, dropout=1)
