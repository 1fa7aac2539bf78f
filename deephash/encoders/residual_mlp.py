"""Features plus a learnt correction, which is zero at the start."""

from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor, nn

from deephash.encoders.base import Encoder
from deephash.functional.feature_scale import Standardisation
from deephash.functional.layers import build_hidden_layers, check_dropout, check_widths, draw_layers
from deephash.validation import check_count


def branch_generator(generator: torch.Generator) -> torch.Generator:
    """Return a new generator seeded from the state of another, without advancing the other.

    Args:
        generator: CPU generator.
    """
    copy = torch.Generator()
    copy.set_state(generator.get_state())
    return torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (1,), generator=copy)))


@final
class ResidualMLP(Encoder):
    """x + s · g((x - mean) / deviation), where g is a multilayer perceptron whose last layer starts at zero.

    Initially it is the identity, bit for bit, and `fit` does not advance the generator, so joint training starts with
    the codes of the projection alone. The gradients of the hidden layers are zero only in the first step, which changes
    the last layer.

    The scale s is the root mean square of the features' deviations, so that a training step changes features of any
    scale by the same fraction, and the relative scales of the features reach the projection.

    Known weakness: with few labels per class it memorises the training items; dropout and augmentation reduce
    this. Its last layer has the width of the features, so it costs more than twice as much as `MLP`.

    Shape:
        features (n, d) → (n, d).

    Args:
        input_dim: feature dimension d.
        hidden: widths of the hidden layers; [1024], twice the dimension of GIST.
        dropout: fraction of each hidden layer's values that training sets to 0; 0.5, as recommended by Srivastava et
            al. for hidden layers.

    Raises:
        InvalidInputError: no width, a width below 1, or a dropout outside [0, 1).

    References:
        He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016, Eq. 1; Goyal et al.,
        "Accurate, large minibatch SGD", arXiv:1706.02677, 2017, §5.1, for the zero start; Srivastava et al.,
        "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """

    scale: Tensor

    def __init__(self, input_dim: int, hidden: Sequence[int] = (1024,), dropout: float = 0.5) -> None:
        check_count(input_dim, "input_dim")
        widths = check_widths(hidden, "hidden")
        check_dropout(dropout)
        super().__init__(input_dim, input_dim)
        self.hidden = widths
        self.dropout = dropout
        self.standardised = Standardisation(input_dim)
        self.register_buffer("scale", torch.ones(()))
        self.layers = build_hidden_layers(input_dim, widths, dropout)
        self.last = nn.Linear(widths[-1], input_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Add the correction to the features, (n, d) → (n, d)."""
        correction: Tensor = self.last(self.layers(self.standardised(features)))
        return features.to(correction.dtype) + self.scale * correction

    @torch.no_grad()
    def fit(self, features: Tensor, generator: torch.Generator) -> Self:
        """Measure the features' means, deviations and scale, draw the hidden layers, and set the last one to zero."""
        deviation = self.standardised.fit(features).deviation
        varies = (features != features[:1]).any(0)
        self.scale.copy_(deviation[varies].square().sum().div(len(varies)).sqrt() if varies.any() else torch.ones(()))
        draw_layers(self.layers, branch_generator(generator))
        self.last.weight.zero_()
        self.last.bias.zero_()
        return self
