"""Deep joint-semantics reconstructing hashing (Su, Zhong & Zhang, ICCV 2019)."""

from typing import ClassVar, final

from torch import Tensor, nn

from deephash.data.views import Views
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_fraction, check_number, check_positive


def joint_semantics(first: Tensor, second: Tensor, beta: float, eta: float) -> Tensor:
    """S = (1 - η) S̃ + η S̃ S̃ᵀ / m of S̃ = β S₁ + (1 - β) S₂, each 2 cos - 1 of a view's features (Eqs. 1 and 2).

    The product says how alike two items' neighbourhoods are.

    Args:
        first: features of m items, floating (m, d).
        second: of the same items, (m, e).
        beta: weight of the first view.
        eta: weight of the neighbourhoods.

    Returns:
        Affinities (m, m), symmetric; within [-1, 1] where features are not below 0.
    """
    first, second = (2 * cosines(features, features) - 1 for features in (first, second))
    joint = beta * first + (1 - beta) * second
    return (1 - eta) * joint + eta * (joint @ joint.T) / max(1, len(joint))


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle of each two rows, (n, d) and (m, d) → (n, m); 0 of a row of zeros."""
    return nn.functional.normalize(first, dim=1) @ nn.functional.normalize(second, dim=1).T


@final
class DJSRH(Loss):
    """Cosines of codes, across views and within, as alike as the items' features in both views together.

    It learns from pairs without labels. The affinity is made from the features of the batch; each item counts with
    itself, since a pair's two codes should agree. Known weakness: the affinity is only as good as distances between
    features, and a small batch knows few of an item's neighbours. Features below 0, as standardised ones, take the
    affinities out of [-1, 1]: it suits counts, shares and activations. Items that lack a view do not count.

    Shape:
        codes (n, l) of both views, features in both views, views (n,), rows (n,) → scalar, at least 0; 0 where no
        item has both views.

    Args:
        beta: weight of the first view's affinity, 1 - beta the second's; 0.3 is the authors' on Wiki, 0.6 on NUS-WIDE,
            0.9 on MIRFlickr, with images first.
        eta: weight of the likeness of neighbourhoods.
        mu: factor of the affinities that are reconstructed; above 1 it draws items that are alike to equal bits, and
            the others farther apart.
        intra: weight of the terms within each view; 0.3 is the authors' on Wiki, 0.1 elsewhere.

    Raises:
        InvalidInputError: a beta or eta outside [0, 1], a mu not above 0, or an intra below 0.

    References:
        Su, Zhong & Zhang, "Deep joint-semantics reconstructing hashing for large-scale unsupervised cross-modal
        retrieval", ICCV 2019, Section 3; weights by the authors' code.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"two_views"})

    def __init__(self, beta: float = 0.3, eta: float = 0.4, mu: float = 1.5, intra: float = 0.3) -> None:
        super().__init__()
        check_fraction(beta, "beta")
        check_fraction(eta, "eta")
        check_positive(mu, "mu")
        check_number(intra, "intra")
        if intra < 0:
            raise InvalidInputError(f"intra={intra!r}; expected a number of at least 0.")
        self.beta, self.eta, self.mu, self.intra = beta, eta, mu, intra

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared error of cosines across views, and within each of them."""
        assert isinstance(batch.features, Views)
        assert batch.rows is not None
        assert batch.views is not None
        features = batch.features.pairs()
        if not len(features):
            return 0 * batch.codes.sum()
        complete = batch.features.complete[batch.rows]
        first, second = (self._of_view(batch, complete, number) for number in range(2))
        images, texts = (features.features[name].to(batch.codes) for name in features.names)
        target = self.mu * joint_semantics(images, texts, self.beta, self.eta)

        def error(one: Tensor, other: Tensor) -> Tensor:
            return (cosines(one, other) - target).square().mean()

        return error(first, second) + self.intra * (error(first, first) + error(second, second))

    @staticmethod
    def _of_view(batch: TrainingBatch, complete: Tensor, number: int) -> Tensor:
        """Codes of one view of the items that have both, in the items' order."""
        assert batch.rows is not None
        chosen = ((batch.views == number) & complete).nonzero()[:, 0]
        return batch.codes[chosen[batch.rows[chosen].argsort()]]
