"""The GIST of the mirrored image, from the GIST of the image."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

from deephash.augmentations.base import Augmentation
from deephash.functional.gist_mirror import gist_mirror
from deephash.validation import check_fraction


@final
class MirroredGIST(Augmentation):
    """Left-right mirroring of images of which only GIST features are available.

    The filters and blocks of GIST are symmetric, so the features of the mirrored image are the same values in other
    places, and no images are needed. If the number of frequencies is even, the highest is not symmetric, so
    features differ from the exact ones by about a hundredth of their size.

    Known weakness: only GIST features are mirrored; other features with the same number of values are permuted without
    an error.

    Shape:
        GIST features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d, the number of filters times blocks².
        flip: probability of mirroring, by default 0.5.
        orientations_per_scale: number of orientations of the descriptor at each scale.
        blocks: number of blocks of the descriptor along each side.

    Raises:
        InvalidInputError: the dimension does not match such a descriptor, or a setting is out of range.

    References:
        Oliva & Torralba, "Modeling the shape of the scene", IJCV 42(3), 2001, for the filters and the grid.
    """

    places: Tensor

    def __init__(
        self, input_dim: int, flip: float = 0.5, orientations_per_scale: Iterable[int] = (8, 8, 8, 8), blocks: int = 4
    ) -> None:
        super().__init__(input_dim)
        check_fraction(flip, "flip")
        orientations = list(orientations_per_scale)
        self.register_buffer("places", gist_mirror(input_dim, orientations, blocks), persistent=False)
        self.flip = flip
        self.orientations_per_scale = orientations
        self.blocks = blocks

    def change(self, features: Tensor) -> Tensor:
        """Return features, some of them of mirrored images."""
        flipped = torch.rand(len(features), 1, device=features.device) < self.flip
        return torch.where(flipped, features[:, self.places], features)
