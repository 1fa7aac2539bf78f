"""The centred linear map."""

import torch

from deephash.functional.linear_map import project_centred


def test_small_spread_beside_a_large_mean_keeps_its_digits():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(100, 8, generator=generator).double()
    directions = torch.randn(8, 4, generator=generator)
    features = (spread + 1e4).float()
    mean = torch.full((8,), 1e4)
    exact = (features.double() - 1e4) @ directions.double()
    assert float((project_centred(features, mean, directions) - exact).abs().max()) < 1e-5


def test_the_weights_decide_the_dtype():
    directions, mean = torch.eye(2), torch.zeros(2)
    for dtype in (torch.float16, torch.float64):
        assert project_centred(torch.ones(1, 2, dtype=dtype), mean, directions).dtype == torch.float32
