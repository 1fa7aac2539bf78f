"""The orthogonal Procrustes problem (Schönemann, Psychometrika 1966) and random orthogonal matrices."""

import torch
from torch import Tensor


def procrustes_rotation(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Find the orthogonal R that maximises tr(Rᵀ C), and so minimises the error between B and V R for C = Vᵀ B.

    ‖B - V R‖² = ‖B‖² + ‖V‖² - 2 tr(Rᵀ C); with C = U Σ Pᵀ the maximum, at R = U Pᵀ, is the sum of singular values.

    Args:
        correlation: C, float64 (k, k).

    Returns:
        R float64 (k, k), and tr(Rᵀ C), a float64 scalar.
    """
    left, singular, right = torch.linalg.svd(correlation)
    return left @ right, singular.sum()


def random_orthogonal(k: int, generator: torch.Generator) -> Tensor:
    """Draw a k × k orthogonal matrix uniformly (by Haar's measure), as float64 on the CPU.

    Args:
        k: size.
        generator: CPU generator of the draw.
    """
    q, r = torch.linalg.qr(torch.randn(k, k, generator=generator, dtype=torch.float64))
    # QR alone is not uniform: the solver chooses the signs of R's diagonal (Mezzadri, Notices of the AMS 2007).
    rotation: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
    return rotation
