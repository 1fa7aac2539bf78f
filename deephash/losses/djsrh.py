"""Deep joint-semantics reconstructing hashing (Su, Zhong & Zhang, ICCV 2019)."""

from typing import ClassVar, final

from torch import Tensor, nn

from deephash.data.views import Views
from deephash.losses.base import Loss, check_weight
from deephash.losses.batch import TrainingBatch
from deephash.validation import check_fraction, check_positive


def joint_semantics(first: Tensor, second: Tensor, beta: float, eta: float) -> Tensor:
    """S = (1 - η) S̃ + η S̃ S̃ᵀ / m, with S̃ = β S₁ + (1 - β) S₂ (Eqs. 1, 2).

    An entry of S_t is 2 cos θ - 1, with the angle θ between the features of two items in view t. The product S̃ S̃ᵀ
    measures the similarity of the neighbourhoods of two items.

    Args:
        first: features of m items in the first view, floating (m, d).
        second: features of the same items in the second view, (m, e).
        beta: weight of the first view.
        eta: weight of the neighbourhoods.

    Returns:
        Affinities (m, m), symmetric; within [-1, 1] if features are not negative.
    """
    first, second = (2 * cosines(features, features) - 1 for features in (first, second))
    joint = beta * first + (1 - beta) * second
    return (1 - eta) * joint + eta * (joint @ joint.T) / max(1, len(joint))


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between any two rows, (n, d) and (m, d) → (n, m); 0 for a row of zeros."""
    return nn.functional.normalize(first, dim=1) @ nn.functional.normalize(second, dim=1).T


@final
class DJSRH(Loss):
    """Deep joint-semantics reconstructing hashing: makes cosines of codes follow the features of both views.

    No labels are needed. The affinities combine the cosines of the batch's features in both views with the similarity
    of neighbourhoods. The loss is the squared error between these affinities and the cosines of codes, across
    views and within each. An item is compared with itself too, because its two codes should agree.
    Known weakness: affinities are only as good as feature distances, and a small batch contains few neighbours of an
    item. Negative features, for example standardised ones, lead to affinities outside [-1, 1]; use counts, shares or
    activations. Items that lack a view do not count.

    Shape:
        codes (n, l) of both views, features in both views, views (n,), rows (n,) → scalar, at least 0; 0 if no item has
        both views.

    Args:
        beta: weight of the first view's affinity, with 1 - beta for the second; the authors use 0.3 on Wiki, 0.6 on
            NUS-WIDE and 0.9 on MIRFlickr, with images first.
        eta: weight of the similarity of neighbourhoods.
        mu: factor of the target affinities; above 1, similar items share more bits, and other items share fewer.
        intra: weight of the terms within each view; the authors use 0.3 on Wiki and 0.1 elsewhere.

    Raises:
        InvalidInputError: beta or eta is outside [0, 1], mu is not above 0, or intra is below 0.

    References:
        Su, Zhong & Zhang, "Deep joint-semantics reconstructing hashing for large-scale unsupervised cross-modal
        retrieval", ICCV 2019, Section 3; weights as in the authors' code.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"two_views"})

    def __init__(self, beta: float = 0.3, eta: float = 0.4, mu: float = 1.5, intra: float = 0.3) -> None:
        super().__init__()
        check_fraction(beta, "beta")
        check_fraction(eta, "eta")
        check_positive(mu, "mu")
        check_weight(intra, "intra")
        self.beta, self.eta, self.mu, self.intra = beta, eta, mu, intra

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared error of cosines across views, and within each of them."""
        assert isinstance(batch.features, Views)
        features = batch.features.pairs()
        if not len(features):
            return 0 * batch.codes.sum()
        first, second, _ = batch.complete_codes()
        images, texts = (features.features[name].to(batch.codes) for name in features.names)
        target = self.mu * joint_semantics(images, texts, self.beta, self.eta)

        def error(codes: Tensor, partners: Tensor) -> Tensor:
            return (cosines(codes, partners) - target).square().mean()

        return error(first, second) + self.intra * (error(first, first) + error(second, second))
