"""The GIST of the mirrored image, from the GIST of the image."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.validation import InvalidInputError, check_count, check_fraction


def mirror_permutation(orientations_per_scale: Iterable[int], blocks: int) -> Tensor:
    """Places of the mirrored image's features among an image's: gist(mirrored) = gist(image)[places].

    Mirroring turns orientation j of o into (o - j) mod o, and the grid's last column into its first.

    Args:
        orientations_per_scale: orientations o of each scale.
        blocks: blocks along each side; features of a filter go down one column after another.

    Returns:
        int64 (d,), which undoes itself.
    """
    filters, first = [], 0
    for orientations in orientations_per_scale:
        filters.append(first + torch.arange(orientations).neg().remainder(orientations))
        first += orientations
    places = torch.arange(first * blocks**2).reshape(first, blocks, blocks)
    return places[torch.cat(filters)].flip(1).flatten()


@final
class MirroredGIST(Augmentation):
    """Mirrors images left and right, where GIST features are all that is left of them.

    GIST's filters and blocks are symmetric, so the features of the mirrored image are the same values in other places:
    augmentation without the images. What is not symmetric, the highest of an even number of frequencies, moves features
    by a hundredth of their size.

    Known weakness: it takes GIST alone; other features of as many values are shuffled without notice.

    Shape:
        GIST features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d, the number of filters times blocks².
        flip: probability of mirroring; 0.5.
        orientations_per_scale: as the descriptor's, [8, 8, 8, 8].
        blocks: blocks along each side, as the descriptor's, 4.

    Raises:
        InvalidInputError: a dimension that such a descriptor does not give, or a setting out of range.

    References:
        Oliva & Torralba, "Modeling the shape of the scene", IJCV 42(3), 2001, for the filters and the grid.
    """

    places: Tensor

    def __init__(
        self,
        input_dim: int,
        flip: float = 0.5,
        orientations_per_scale: Iterable[int] = (8, 8, 8, 8),
        blocks: int = 4,
    ) -> None:
        super().__init__(input_dim)
        check_fraction(flip, "flip")
        check_count(blocks, "blocks")
        orientations = list(orientations_per_scale)
        for count in orientations:
            check_count(count, "orientations_per_scale")
        if sum(orientations) * blocks**2 != input_dim:
            raise InvalidInputError(
                f"{input_dim} features are no GIST of orientations_per_scale={orientations} and blocks={blocks}, which "
                f"has {sum(orientations) * blocks**2}; choose data=cifar10_gist, or give the descriptor's own settings."
            )
        self.flip = flip
        self.orientations_per_scale = orientations
        self.blocks = blocks
        self.register_buffer("places", mirror_permutation(orientations, blocks), persistent=False)

    def change(self, features: Tensor) -> Tensor:
        """Features of images some of which are mirrored."""
        flipped = torch.rand(len(features), 1, device=features.device) < self.flip
        return torch.where(flipped, features[:, self.places], features)
