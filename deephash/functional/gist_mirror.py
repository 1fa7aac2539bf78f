"""The permutation from an image's GIST to that of the mirrored image."""

from collections.abc import Iterable

import torch
from torch import Tensor

from deephash.validation import InvalidInputError, check_count


def mirror_permutation(orientations_per_scale: Iterable[int], blocks: int) -> Tensor:
    """Return the permutation that mirrors the GIST of an image: gist(mirrored) = gist(image)[permutation].

    Mirroring turns orientation j of o into (o - j) mod o, and the grid's last column into its first.

    Args:
        orientations_per_scale: orientations o of each scale.
        blocks: blocks along each side; the features of a filter are stored column by column.

    Returns:
        int64 (d,), its own inverse.
    """
    filters, first = [], 0
    for orientations in orientations_per_scale:
        filters.append(first + torch.arange(orientations).neg().remainder(orientations))
        first += orientations
    places = torch.arange(first * blocks**2).reshape(first, blocks, blocks)
    return places[torch.cat(filters)].flip(1).flatten()


def gist_mirror(input_dim: int, orientations_per_scale: Iterable[int], blocks: int) -> Tensor:
    """Return `mirror_permutation` after checking that features of this dimension can be such a GIST.

    Args:
        input_dim: feature dimension d.
        orientations_per_scale: orientations of each scale.
        blocks: blocks along each side.

    Returns:
        int64 (d,).

    Raises:
        InvalidInputError: settings out of range, or whose GIST has another dimension.
    """
    check_count(blocks, "blocks")
    orientations = list(orientations_per_scale)
    for count in orientations:
        check_count(count, "orientations_per_scale")
    if sum(orientations) * blocks**2 != input_dim:
        raise InvalidInputError(
            f"{input_dim} features are not a GIST of orientations_per_scale={orientations} and blocks={blocks}, which "
            f"has {sum(orientations) * blocks**2}; choose data=cifar10_gist, or give the descriptor's own settings."
        )
    return mirror_permutation(orientations, blocks)
