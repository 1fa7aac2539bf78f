"""A convolution over the grid of blocks of a descriptor such as GIST."""

import math
from typing import Self, final

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import Standardisation
from deephash.functional.layers import check_dropout, draw_layers
from deephash.validation import InvalidInputError, check_count


@final
class GridConvolutional(Encoder):
    """Standardised features as maps over a square grid, one 3 × 3 convolution, and one hidden layer.

    A descriptor that averages filters over a grid of image blocks, such as GIST, is a small image of many channels. The
    convolution learns combinations of neighbouring blocks once for all positions, which needs fewer labels than a
    perceptron that learns them for each position. Features are ordered by filter, then by block. The output of the
    hidden layer, after its ReLU, is projected. Initial weights are random.

    Known weakness: it is useless for features without such a grid, and cannot detect this: any c · s² features are
    accepted.

    Shape:
        features (n, c · s²) → (n, hidden), not below 0.

    Args:
        input_dim: feature dimension d = c · s².
        channels: filters c of the descriptor; 32, GIST's 4 scales of 8 orientations.
        filters: channels of the convolution; 128.
        hidden: width of the hidden layer; 512.
        dropout: fraction of the values before and after the hidden layer that training sets to 0; 0.5, as recommended
            by Srivastava et al. for hidden layers.

    Raises:
        InvalidInputError: a dimension that is not a square grid of these channels, or a setting out of range.

    References:
        LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11), 1998;
        Oliva & Torralba, "Modeling the shape of the scene", IJCV 42(3), 2001, for the grid; Srivastava et al.,
        "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    def __init__(
        self, input_dim: int, channels: int = 32, filters: int = 128, hidden: int = 512, dropout: float = 0.5
    ) -> None:
        check_count(input_dim, "input_dim")
        check_count(channels, "channels")
        check_count(filters, "filters")
        check_count(hidden, "hidden")
        check_dropout(dropout)
        side = math.isqrt(input_dim // channels)
        if side == 0 or channels * side**2 != input_dim:
            raise InvalidInputError(
                f"{input_dim} features are not a square grid of channels={channels}; choose a descriptor with one, "
                "such as data=cifar10_gist, or set the number of its channels."
            )
        super().__init__(input_dim, hidden)
        self.channels = channels
        self.filters = filters
        self.hidden = hidden
        self.dropout = dropout
        self.side = side
        self.standardised = Standardisation(input_dim)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (channels, side, side)),
            nn.Conv2d(channels, filters, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(filters * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the output of the hidden layer, (n, d) → (n, hidden)."""
        encoded: Tensor = self.layers(self.standardised(features))
        return encoded

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Measure means and deviations of the features, and draw the weights."""
        self.standardised.fit(features)
        draw_layers(self.layers, generator)
        return self
