"""Predictable dual-view hashing (Rastegari, Choi, Fakhraei, Daumé & Davis, ICML 2013)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import canonical_signs, feature_mean, root_mean_square
from deephash.functional.support_vectors import linear_svm
from deephash.projections.paired.base import PairedProjection
from deephash.projections.paired.cvh import canonical_pairs, covariances
from deephash.projections.paired.linear_view import LinearView
from deephash.validation import InvalidInputError, check_choice, check_count, check_positive

# Eigenvalues below this share of the largest are those of bits that others determine.
MIN_EIGENVALUE = 1e-9
DECORRELATIONS = ("nearest", "eigenvectors")


def decorrelated(bits: Tensor, way: str) -> Tensor:
    """Orthonormal columns from those of centred bits ±1, from which sgn makes bits again.

    With B the centred bits and BᵀB = V Λ Vᵀ, the eigenvectors of B Bᵀ are U = B V Λ^(-1/2), at which the paper's
    penalty ‖YᵀY - I‖² is 0. So it is at any rotation of them; of all, U Vᵀ is nearest to B.

    Args:
        bits: bool (n, k).
        way: "eigenvectors" for U, "nearest" for U Vᵀ.

    Returns:
        float64 (n, k), zero-mean columns, orthonormal but for those of bits that follow from others.
    """
    centred = torch.where(bits, 1.0, -1.0).double()
    centred = centred - centred.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    vectors = canonical_signs(vectors)
    kept = values > MIN_EIGENVALUE * values[-1]
    inverse_roots = torch.where(kept, values.clamp_min(torch.finfo(values.dtype).tiny), torch.inf).rsqrt()
    eigenvectors: Tensor = centred @ (vectors * inverse_roots)
    return eigenvectors @ vectors.T if way == "nearest" else eigenvectors


def predicting_directions(features: Tensor, bits: Tensor, cost: float) -> Tensor:
    """Linear support vector machines through the origin, one for each bit.

    Without an intercept, as the paper's sgn(wᵀx): where a view says little of a bit, an intercept would predict the
    more frequent value for all items. Items mirrored at the origin, with their bits turned, have the same machine, and
    by symmetry no intercept.

    Args:
        features: floating (n, d), centred.
        bits: bool (n, k).
        cost: C > 0.

    Returns:
        Directions (d, k).
    """
    directions, _ = linear_svm(torch.cat([features, -features]), torch.cat([bits, ~bits]), cost / 2)
    return directions


@final
class PDH(PairedProjection):
    """Bits that either view can predict: machines of one view learn the bits of the other, in turn.

    It starts from halfspaces among the canonical directions of both views. In a round, machines of the first view
    learn the second's bits; what they predict, decorrelated so that bits stay different, is what machines of the
    second view learn, and so on. Labels have no part in it.
    Known weakness: nothing but the other view says what a bit should keep, so what images and texts of a class share
    beyond their pairs is not sought; a view of few dimensions leaves many bits of the code alike.

    Shape:
        features (n, d of the view) → projections (n, k); k may exceed either d.

    Args:
        input_dims: feature dimension of each view by its name.
        output_dim: number of projections k.
        rounds: how often both views learn from the other; after 3 little changes.
        cost: C of the machines, on features of mean squared length 1.
        regularisation: ridge of the canonical directions, as in `CVH`.
        decorrelation: "nearest", which turns only the bits that follow most from others, so that the machines keep
            what they agree on; or "eigenvectors", as the paper: each bit becomes another, the last ones of little but
            noise where a view has fewer dimensions than the code has bits.

    Raises:
        InvalidInputError: rounds below 1, a cost or regularisation not above 0, or another decorrelation; in `fit`, a
            view whose items are all the same.

    References:
        Rastegari, Choi, Fakhraei, Daumé & Davis, "Predictable dual-view hashing", ICML 2013, Section 3.
    """

    minimum_rows: ClassVar[int] = 2

    def __init__(
        self,
        input_dims: Mapping[str, int],
        output_dim: int,
        rounds: int = 3,
        cost: float = 1.0,
        regularisation: float = 1e-3,
        decorrelation: str = "nearest",
    ) -> None:
        super().__init__(input_dims, output_dim)
        check_count(rounds, "rounds")
        check_positive(cost, "cost")
        check_positive(regularisation, "regularisation")
        check_choice(decorrelation, DECORRELATIONS, "decorrelation")
        self.rounds = rounds
        self.cost = cost
        self.regularisation = regularisation
        self.decorrelation = decorrelation
        self.views = nn.ModuleDict({name: LinearView(size, output_dim) for name, size in input_dims.items()})

    def _fit(
        self,
        views: Mapping[str, Tensor],
        labels: Tensor | None,
        affinity: TrainingAffinity | None,
        generator: torch.Generator,
    ) -> None:
        means = [feature_mean(rows) for rows in views.values()]
        scales = [root_mean_square(rows, mean) for rows, mean in zip(views.values(), means, strict=True)]
        for name, scale in zip(views, scales, strict=True):
            if scale == 0:
                raise InvalidInputError(f"all training pairs have the same {name}; give data that vary.")
        items = [
            (rows.double() - mean) / scale for rows, mean, scale in zip(views.values(), means, scales, strict=True)
        ]
        bits = self._first_bits(items[1], items[0], generator)
        for _ in range(self.rounds):
            for side in (0, 1):
                bits = items[side] @ predicting_directions(items[side], bits, self.cost) >= 0
                bits = decorrelated(bits, self.decorrelation) >= 0
        # Both views' machines learn the same bits last, or decorrelation would have come between the two.
        self.learnt_codes = bits
        for name, rows, mean, scale in zip(views, items, means, scales, strict=True):
            self.view(name).set(mean, predicting_directions(rows, bits, self.cost) / scale)

    def _first_bits(self, asked: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
        """Random halfspaces among a view's canonical directions of unit variance: any number of bits, all alike."""
        _, _, own, others, cross = covariances(asked, other)
        directions, _, _ = canonical_pairs(own, others, cross, self.regularisation)
        shared = min(cross.shape)
        mixture = torch.randn(shared, self.output_dim, generator=generator, dtype=torch.float64)
        return asked @ directions[:, :shared] @ mixture.to(asked.device) >= 0
