"""Distances as a linear form of an item's bits, for tensor arithmetic on any device.

With the bits x of an item and y of a query, a differing bit j costs w_j, so distance = Σ_j w_j [x_j ≠ y_j] = Σ_j w_j
y_j + Σ_j w_j (1 - 2 y_j) x_j: one offset and one row of coefficients per query. Hamming: w = 1. Asymmetric: the query's
weights. Manhattan: w = 1 on levels in unary, where the number of differing bits is the difference of the levels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deephash.codes import unpack
from deephash.ranking.distance import Asymmetric, Distance, LevelDistance


def form_width(distance: Distance) -> int:
    """Return the number of bits of an item in the linear form."""
    return distance.maximum if isinstance(distance, LevelDistance) else distance.code_bits


def form_dtype(distance: Distance, device: torch.device) -> torch.dtype:
    """Return a floating dtype whose matrix products are exact for this distance.

    Unit weights are exact in float32 even if its products are rounded (TF32, bfloat16): each is 0 or ±1, and sums stay
    below 2^24. Weights need float64, except on Metal, which lacks it and does not round products.
    """
    return torch.float64 if isinstance(distance, Asymmetric) and device.type != "mps" else torch.float32


def form_bits(codes: Tensor, distance: Distance) -> Tensor:
    """Return the bits of packed codes in the linear form: bool (n, form_width)."""
    bits = unpack(codes, distance.code_bits)
    if not isinstance(distance, LevelDistance):
        return bits
    dimensions, places = number_entries([(1 << bits) - 1 for bits in distance.widths], codes.device)
    levels = form_levels(codes, distance).to(torch.uint8)
    return levels[:, dimensions] > places.to(torch.uint8)


def form_levels(codes: Tensor, distance: LevelDistance) -> Tensor:
    """Decode the integer of each projection from packed codes: int64 (n, k)."""
    dimensions, places = number_entries(distance.widths, codes.device)
    values = torch.zeros(distance.code_bits, len(distance.widths), dtype=torch.float32, device=codes.device)
    values[torch.arange(len(places), device=codes.device), dimensions] = 2.0**places
    # Sums of distinct powers of two below 2^8: exact even where products are rounded (TF32, bfloat16).
    return (unpack(codes, distance.code_bits).float() @ values).round().to(torch.int64)


def number_entries(counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the owner of each of Σ counts entries and its number within the owner, int64 from 0."""
    lengths = torch.tensor(counts, device=device)
    owners = torch.arange(len(counts), device=device).repeat_interleave(lengths)
    return owners, torch.arange(len(owners), device=device) - (lengths.cumsum(0) - lengths)[owners]


def form_queries(query_codes: Tensor, distance: Distance) -> tuple[Tensor, Tensor]:
    """Return offsets (q,) and coefficients (q, form_width) of the queries, in `form_dtype`."""
    bits = form_bits(query_codes, distance)
    dtype = form_dtype(distance, query_codes.device)
    weights = distance.weights.to(dtype) if isinstance(distance, Asymmetric) else torch.ones_like(bits, dtype=dtype)
    return (weights * bits).sum(1), torch.where(bits, -weights, weights)
