"""The anchor map: Gaussian kernel values at m anchors, the first step of every kernel method."""

from typing import Self, final

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.functional.anchors import gaussian_kernel, kmeans_anchors, mean_squared_distance, random_anchors
from deephash.functional.row_shares import count_rows
from deephash.validation import InvalidInputError, check_choice, check_count

SELECTIONS = {"kmeans": kmeans_anchors, "random": random_anchors}


@final
class AnchorMap(Encoder):
    """Kernel values at m anchors, a Nyström approximation whose cost does not depend on the number of items.

    The bandwidth σ² is the mean squared distance between training items and anchors, as in KSH (Liu et al., 2012):
    kernel values then lie around exp(-1/2) at any scale of the features. Anchors and bandwidth are parameters, so that
    joint training can move them.

    Shape:
        features (n, d) → kernel values (n, m), in (0, 1].

    Args:
        input_dim: feature dimension d.
        anchors: number of anchors m; 300, as in AGH, KSH and SGH. `fit` lowers it to the number of training items if
            those are fewer.
        selection: "kmeans" for cluster centres, as in AGH; "random" for random training items, as in KSH.

    Raises:
        InvalidInputError: anchors below 1, or an unknown selection; in `fit`, identical items.

    References:
        Williams & Seeger, "Using the Nyström method to speed up kernel machines", NIPS 2000; Liu, Wang, Kumar & Chang,
        "Hashing with graphs", ICML 2011; Liu et al., "Supervised hashing with kernels", CVPR 2012.
    """

    def __init__(self, input_dim: int, anchors: int = 300, selection: str = "kmeans") -> None:
        check_count(input_dim, "input_dim")
        check_count(anchors, "anchors")
        check_choice(selection, SELECTIONS, "selection")
        super().__init__(input_dim, anchors)
        self.anchors = anchors
        self.selection = selection
        self.centres = nn.Parameter(torch.zeros(anchors, input_dim))
        self.bandwidth = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """Compute kernel values, (n, d) → (n, m)."""
        return gaussian_kernel(features, self.centres, self.bandwidth)

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Choose anchors and bandwidth.

        Args:
            features: floating (n, d), the training items.
            generator: CPU generator of the draw.

        Returns:
            self.

        Raises:
            InvalidInputError: identical items, whose distances give no bandwidth.
        """
        self.anchors = self.output_dim = min(self.anchors, count_rows(features))
        centres = SELECTIONS[self.selection](features, self.anchors, generator)
        squared = mean_squared_distance(features, centres)
        if squared == 0:
            raise InvalidInputError(
                f"all {count_rows(features)} training items are the same, so a kernel of their distances has no "
                "bandwidth; give data that vary."
            )
        self.centres = nn.Parameter(centres.to(self.centres))
        self.bandwidth.fill_(squared**0.5)
        return self
