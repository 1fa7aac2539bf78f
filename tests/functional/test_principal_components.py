"""Principal components against NumPy's SVD."""

import numpy as np
import pytest
import torch

from deephash.functional.principal_components import canonical_signs, feature_mean, principal_components


def features_of(n, d, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(1, 0, d, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) * spread @ basis + 5).to(dtype)


def by_svd(features, k):
    centred = features.double().numpy() - features.double().numpy().mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    return right[:k].T, singular[:k] ** 2 / len(features)


@pytest.mark.parametrize(("n", "d", "k"), [(300, 12, 12), (300, 12, 5), (5000, 60, 20), (12, 40, 8), (41, 40, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_equal_to_an_svd_up_to_sign(n, d, k, dtype, tolerance):
    features = features_of(n, d, dtype)
    mean, directions, variances = principal_components(features, k)
    expected, expected_variances = by_svd(features, k)
    assert directions.shape == (d, k)
    assert mean.dtype == directions.dtype == variances.dtype == torch.float64
    np.testing.assert_allclose(mean.numpy(), features.double().numpy().mean(0), rtol=1e-6)
    np.testing.assert_allclose(variances.numpy(), expected_variances, rtol=max(tolerance, 1e-8))
    np.testing.assert_allclose(np.abs((directions.numpy() * expected).sum(0)), 1, atol=tolerance)
    np.testing.assert_allclose(directions.T @ directions, np.eye(k), atol=1e-9)


def test_signs_are_canonical():
    directions = principal_components(features_of(200, 10), 10)[1]
    largest = directions.abs().argmax(0)
    assert bool((directions[largest, torch.arange(10)] > 0).all())
    turned = directions * torch.tensor([1.0, -1.0] * 5)
    assert torch.equal(canonical_signs(turned), directions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "rank"), [(200, 5), (200, 1), (6, 5), (12, 5)])
def test_directions_in_which_rows_do_not_vary_are_left_out(n, rank, dtype):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(n, rank, generator=generator, dtype=torch.float64)
    features = (low @ torch.randn(rank, 20, generator=generator, dtype=torch.float64) + 3).to(torch.float64)
    features[:, 10:] = features[:, :10]
    if dtype == torch.float32:
        # Whole numbers, so that float32 holds the low rank exactly.
        features = torch.randint(-8, 9, (n, rank), generator=generator).float()
        features = torch.cat([features, features, torch.full((n, 3), 0.1)], 1)
    assert principal_components(features, 18 if dtype == torch.float64 else 2 * rank)[2].shape == (rank,)


def test_constant_rows_have_no_directions():
    for n in (3, 40):
        mean, directions, variances = principal_components(torch.full((n, 8), 0.1), 4)
        assert directions.shape == (8, 0)
        assert len(variances) == 0
        assert torch.allclose(mean, torch.full((8,), 0.1, dtype=torch.float64))


def test_small_variances_of_float32_features_are_exact():
    """Products in float32 would blur a variance of 1e-8 of the largest; they are taken again in float64."""
    features = features_of(20_000, 6, torch.float64)
    features = (features - features.mean(0)) @ torch.linalg.qr(torch.randn(6, 6).double()).Q
    features = (features * torch.tensor([1, 1, 1, 1, 1, 1e-4])).float()
    variances = principal_components(features, 6)[2]
    np.testing.assert_allclose(variances.numpy(), by_svd(features, 6)[1], rtol=1e-6)


def test_half_precision_sums_do_not_overflow():
    features = torch.full((5000, 2), 60.0, dtype=torch.float16)
    assert feature_mean(features).tolist() == [60, 60]


@pytest.mark.parametrize("d", [8, 256])
def test_rows_far_from_the_origin_vary_as_those_near_it(d):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(600, d, generator=generator) * torch.linspace(3, 1, d)
    far = rows + 1e6
    mean, directions, variances = principal_components(far, d)
    assert len(variances) == d
    expected, expected_variances = by_svd(far, d)
    # Few dimensions are solved by a mean in float32, which is off by a share of the spacing there, .06.
    tolerance = 1e-2 if d == 8 else 1e-6
    np.testing.assert_allclose(variances, expected_variances, rtol=tolerance)
    np.testing.assert_allclose(np.abs((directions[:, :3].numpy() * expected[:, :3]).sum(0)), 1, atol=tolerance)
    np.testing.assert_allclose(mean, far.double().mean(0), atol=0.1 if d == 8 else 1e-8)


def test_what_rounding_makes_of_a_large_mean_is_no_direction():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(600, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    assert len(principal_components(low + 1e6, 20)[2]) == 3
    assert len(principal_components(torch.full((600, 8), 1e6), 8)[2]) == 0
