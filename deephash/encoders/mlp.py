"""A multilayer perceptron with random initial weights."""

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import Standardisation
from deephash.functional.layers import build_hidden_layers, check_dropout, check_widths, draw_layers
from deephash.validation import check_count


@final
class MLP(Encoder):
    """Hidden layers on standardised features; the output is the last layer after its ReLU.

    The projection is thus the network's last linear map. Initial weights are random, so before joint training the codes
    are worse than without an encoder; `ResidualMLP` starts with the codes of the projection alone.

    Known weakness: with a few hundred labels per class it overfits; dropout and augmentation reduce this.

    Shape:
        features (n, d) → (n, e), not below 0, for the last hidden width e.

    Args:
        input_dim: feature dimension d.
        hidden: widths of the hidden layers, the last of which is e; [1024], twice the dimension of GIST.
        dropout: fraction of each hidden layer's values that training sets to 0; 0.5, as recommended by Srivastava et
            al. for hidden layers.

    Raises:
        InvalidInputError: no width, a width below 1, or a dropout outside [0, 1).

    References:
        Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323, 1986;
        Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    def __init__(self, input_dim: int, hidden: Sequence[int] = (1024,), dropout: float = 0.5) -> None:
        check_count(input_dim, "input_dim")
        widths = check_widths(hidden, "hidden")
        check_dropout(dropout)
        super().__init__(input_dim, widths[-1])
        self.hidden = widths
        self.dropout = dropout
        self.standardised = Standardisation(input_dim)
        self.layers = build_hidden_layers(input_dim, widths, dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return the output of the last hidden layer, (n, d) → (n, e)."""
        encoded: Tensor = self.layers(self.standardised(features))
        return encoded

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Measure means and deviations of the features, and draw the weights."""
        self.standardised.fit(features)
        draw_layers(self.layers, generator)
        return self
