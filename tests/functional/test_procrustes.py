"""The orthogonal Procrustes problem."""

import torch

from deephash.functional.procrustes import procrustes_rotation, random_orthogonal


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_other_rotation_agrees_better():
    points = torch.randn(50, 6, generator=generator(), dtype=torch.float64)
    targets = torch.randn(50, 6, generator=generator(1), dtype=torch.float64)
    rotation, agreement = procrustes_rotation(points.T @ targets)
    assert torch.allclose(rotation.T @ rotation, torch.eye(6, dtype=torch.float64))
    assert torch.allclose(agreement, (points @ rotation * targets).sum())
    error = (targets - points @ rotation).square().sum()
    for seed in range(200):
        other = random_orthogonal(6, generator(seed))
        assert (targets - points @ other).square().sum() > error
        nearby = rotation @ torch.linalg.matrix_exp(0.01 * (other - other.T))
        assert (targets - points @ nearby).square().sum() > error


def test_a_known_rotation_is_found():
    points = torch.randn(30, 5, generator=generator(), dtype=torch.float64)
    true = random_orthogonal(5, generator(3))
    assert torch.allclose(procrustes_rotation(points.T @ (points @ true))[0], true)


def test_random_orthogonal_is_orthogonal_and_uniform():
    draws = torch.stack([random_orthogonal(3, generator(seed)) for seed in range(2000)])
    identity = torch.eye(3, dtype=torch.float64)
    assert torch.allclose(draws.transpose(1, 2) @ draws, identity.expand(2000, 3, 3), atol=1e-12)
    # By Haar's measure every entry has mean 0 and variance 1/k, the diagonal's too; QR alone makes that negative.
    assert float(draws.mean(0).abs().max()) < 0.05
    assert float((draws.square().mean(0) - 1 / 3).abs().max()) < 0.03
    assert abs(float(torch.linalg.det(draws).mean())) < 0.05
