"""Hidden layers for the features of a frozen pretrained network."""

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import Standardisation, take_signed_roots
from deephash.functional.layers import build_hidden_layers, check_dropout, check_widths, draw_layers
from deephash.validation import check_count


@final
class FeatureHead(Encoder):
    """Signed square roots of the features, standardised, then hidden layers with dropout of inputs and outputs.

    Few features of a pretrained network are large for an image. Square roots reduce their share of a linear map's
    output, and dropout of the inputs prevents that codes depend on a few of them. The projection is the last
    linear map.

    Known weakness: without labels, or with a closed-form projection, the random layers only lose information.

    Shape:
        features (n, d) → (n, e), not below 0, for the last hidden width e.

    Args:
        input_dim: feature dimension d.
        hidden: widths of the hidden layers, the last of which is e; [1024], about the dimension of the features.
        input_dropout: fraction of the features that training sets to their mean; .3, chosen on CIFAR-10.
        dropout: fraction of each hidden layer's values that training sets to 0; 0.5, as recommended by Srivastava et
            al. for hidden layers.

    Raises:
        InvalidInputError: no width, a width below 1, or a dropout outside [0, 1).

    References:
        Signed roots: Perronnin, Sánchez & Mensink, "Improving the Fisher kernel for large-scale image classification",
        ECCV 2010, Section 3.2. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
        JMLR 15, 2014.
    """

    def __init__(
        self, input_dim: int, hidden: Sequence[int] = (1024,), input_dropout: float = 0.3, dropout: float = 0.5
    ) -> None:
        check_count(input_dim, "input_dim")
        widths = check_widths(hidden, "hidden")
        check_dropout(input_dropout, "input_dropout")
        check_dropout(dropout)
        super().__init__(input_dim, widths[-1])
        self.hidden = widths
        self.input_dropout = input_dropout
        self.dropout = dropout
        self.standardised = Standardisation(input_dim)
        self.thinned = nn.Dropout(input_dropout)
        self.layers = build_hidden_layers(input_dim, widths, dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return the output of the last hidden layer, (n, d) → (n, e)."""
        features = features.to(self.standardised.mean.dtype)
        encoded: Tensor = self.layers(self.thinned(self.standardised(take_signed_roots(features))))
        return encoded

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Measure means and deviations of the features' roots, and draw the weights."""
        self.standardised.fit(take_signed_roots(features.to(self.standardised.mean.dtype)))
        draw_layers(self.layers, generator)
        return self
