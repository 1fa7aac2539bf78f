"""Semantic correlation (Zhang & Li, AAAI 2014): agreement of two views' directions with the similarity of labels."""

import torch
from torch import Tensor

from deephash.functional.indicators import label_indicators
from deephash.functional.principal_components import BLOCK_ROWS, canonical_signs


def label_directions(labels: Tensor) -> Tensor:
    """Compute L̂, each item's labels as a unit vector, so that L̂ L̂ᵀ is the cosine similarity of labels.

    Args:
        labels: class indices int64 (n,), or bool (n, c); an item without a label has a zero vector.

    Returns:
        float64 (n, c).
    """
    indicators = label_indicators(labels, torch.float64)
    lengths: Tensor = indicators.norm(dim=1, keepdim=True)
    directions: Tensor = indicators / lengths.clamp_min(1)
    return directions


def semantic_agreement(first: Tensor, second: Tensor, means: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """Compute XᵀS̃Y / n² of centred views with S̃ = 2 L̂L̂ᵀ - 11ᵀ, the cosine similarity of labels scaled to [-1, 1].

    S̃ is never built: the sum over pairs factors into (XᵀL̂)(YᵀL̂)ᵀ, and 1ᵀX is 0.

    Args:
        first: X before it is centred, floating (n, d).
        second: Y, floating (n, e).
        means: mean of each view.
        labels: int64 (n,) or bool (n, c).

    Returns:
        float64 (d, e).
    """
    sums = []
    directions = label_directions(labels)
    for features, mean in zip((first, second), means, strict=True):
        total = torch.zeros(features.shape[1], directions.shape[1], dtype=torch.float64, device=features.device)
        for rows, of_rows in zip(torch.split(features, BLOCK_ROWS), torch.split(directions, BLOCK_ROWS), strict=True):
            total += (rows.double() - mean).T @ of_rows.to(features.device)
        sums.append(total / len(features))
    agreement: Tensor = 2 * sums[0] @ sums[1].T
    return agreement


def regularised_whitening(covariance: Tensor, regularisation: float) -> Tensor:
    """Compute T with Tᵀ (C + ρI) T = I, where ρ is `regularisation` × C's mean variance; float64 (d, d)."""
    values, vectors = torch.linalg.eigh(covariance)
    ridge = regularisation * covariance.diagonal().mean()
    scales: Tensor = (values.clamp_min(0) + ridge).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    whitened: Tensor = vectors / scales
    return whitened


def align_signs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Flip pairs of directions (d, k) and (e, k) together so that the first of each pair has a canonical sign."""
    signs = (canonical_signs(first) * first).sum(0).sign()
    return first * signs, second * signs
