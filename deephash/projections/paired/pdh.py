"""Predictable dual-view hashing (Rastegari, Choi, Fakhraei, Daumé & Davis, ICML 2013)."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.principal_components import canonical_signs
from deephash.functional.support_vectors import linear_svm
from deephash.projections.paired.base import PairedProjection, ViewTensors
from deephash.projections.paired.cvh import canonical_pairs, covariances
from deephash.projections.paired.standardised_views import standardise_views
from deephash.validation import check_choice, check_count, check_positive

# Eigenvalues below this share of the largest belong to bits that other bits determine.
MIN_EIGENVALUE = 1e-9
DECORRELATIONS = ("nearest", "eigenvectors")


def decorrelate(bits: Tensor, way: str) -> Tensor:
    """Compute orthonormal columns from those of centred bits ±1; their signs are the new bits.

    Let B be the centred bits and BᵀB = V Λ Vᵀ. The eigenvectors of B Bᵀ are U = B V Λ^(-1/2), at which the penalty
    ‖YᵀY - I‖² of the paper is 0. It is 0 at every rotation of U as well; of these, U Vᵀ is nearest to B.

    Args:
        bits: bool (n, k).
        way: "eigenvectors" for U, "nearest" for U Vᵀ.

    Returns:
        float64 (n, k), zero-mean columns, orthonormal except for bits that other bits determine.
    """
    centred = torch.where(bits, 1.0, -1.0).double()
    centred = centred - centred.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    vectors = canonical_signs(vectors)
    kept = values > MIN_EIGENVALUE * values[-1]
    inverse_roots = torch.where(kept, values.clamp_min(torch.finfo(values.dtype).tiny), torch.inf).rsqrt()
    eigenvectors: Tensor = centred @ (vectors * inverse_roots)
    return eigenvectors @ vectors.T if way == "nearest" else eigenvectors


def learn_directions(features: Tensor, bits: Tensor, cost: float) -> Tensor:
    """Learn linear support vector machines through the origin, one per bit.

    There is no intercept, as in the paper's sgn(wᵀx): if a view carries little information about a bit, an intercept
    would predict the more frequent value for all items. Adding the items mirrored at the origin, with inverted bits,
    keeps the machine and by symmetry makes its intercept 0.

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
    """Predictable dual-view hashing: learns bits that either view can predict from its features.

    The initial bits are random halfspaces in the canonical directions of the second view. In each round, machines of
    the first view learn the bits. Their predictions are decorrelated, so that bits stay different, and machines of the
    second view learn the result. Labels are not used.
    Known weakness: a bit only needs to be predictable from the other view, so classes that images and texts share
    beyond their pairs are ignored; a view of few dimensions makes many bits of the code similar.

    Shape:
        features (n, d of the view) → projections (n, k); k may exceed either d.

    Args:
        input_dims: feature dimension of each view by name.
        output_dim: number of projections k.
        rounds: how often both views learn from each other; after 3 little changes.
        cost: C of the machines, for features of mean squared length 1.
        regularisation: ridge of the canonical directions, as in `CVH`.
        decorrelation: "nearest" changes only the bits that depend most on others, so that the machines keep what they
            agree on; "eigenvectors", as in the paper, replaces each bit, and the last bits are mostly noise if a view
            has fewer dimensions than the code has bits.

    Raises:
        InvalidInputError: rounds is below 1, cost or regularisation is not above 0, or decorrelation is unknown; in
            `fit`, all items of a view are the same.

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

    def _fit(
        self, views: ViewTensors, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        standardised = standardise_views(views)
        items = [view.items for view in standardised.values()]
        bits = self._draw_initial_bits(items[1], items[0], generator)
        for _ in range(self.rounds):
            for side in (0, 1):
                bits = items[side] @ learn_directions(items[side], bits, self.cost) >= 0
                bits = decorrelate(bits, self.decorrelation) >= 0
        # In the end, the machines of both views learn the same bits, without decorrelation in between.
        self.learnt_codes = bits
        for name, view in standardised.items():
            self.view(name).set_weights(view.mean, learn_directions(view.items, bits, self.cost) / view.scale)

    def _draw_initial_bits(self, items: Tensor, partners: Tensor, generator: torch.Generator) -> Tensor:
        """Draw random halfspaces in the canonical directions of one view, any number of bits."""
        directions, _, _ = canonical_pairs(*covariances(items, partners)[2:], self.regularisation)
        shared = min(items.shape[1], partners.shape[1])
        mixture = torch.randn(shared, self.output_dim, generator=generator, dtype=torch.float64)
        return items @ directions[:, :shared] @ mixture.to(items.device) >= 0
