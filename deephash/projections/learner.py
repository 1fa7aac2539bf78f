"""The base class of projections of one view and of two views, which checks supervision and runs a fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deephash.affinity.base import Affinity
from deephash.affinity.supervision import TrainingAffinity, check_supervision
from deephash.conversion import PlainArguments
from deephash.data.items import Features
from deephash.functional.solving import check_learnt, shorten_solver_errors
from deephash.validation import NotFittedError, as_labels

Affinities = TypeVar("Affinities", TrainingAffinity, TrainingAffinity | None)


class Learner(PlainArguments, nn.Module):
    """A module that learns its weights from training items in one call of `fit`."""

    requires: ClassVar[frozenset[str]] = frozenset()
    """What `fit` needs besides features: a subset of {"labels", "affinity"}."""

    samples_rows: ClassVar[bool] = False
    """Whether `fit` draws training rows at random, for example as anchors, so that the order of rows matters."""

    fits_on_shares: ClassVar[bool] = False
    """Whether `fit` only uses sums over rows, so that each process can fit on a share of them (`row_shares`)."""

    def _supervise(
        self, features: Features, labels: Tensor | ArrayLike | None, affinity: Affinity | TrainingAffinity | None
    ) -> tuple[Tensor | None, TrainingAffinity | None]:
        """Check the labels and return them with the affinity among these items."""
        if labels is not None:
            labels = as_labels(labels, len(features), "training labels")
        check_supervision(type(self).__name__, self.requires, labels, affinity, len(features))
        return labels, affinity.supervise(features, labels) if isinstance(affinity, Affinity) else affinity

    @contextmanager
    def _solving(self, items: int) -> Iterator[None]:
        """Report a solver's failure, and weights that became NaN, in one line that names the number of items."""
        with shorten_solver_errors(type(self).__name__, items):
            yield
        check_learnt(self, type(self).__name__, items)

    def _check_fitted(self, is_fitted: bool) -> None:
        if not is_fitted:
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first, or load a saved hasher.")


def draw_items(
    features: Tensor, affinity: Affinities, most: int, generator: torch.Generator
) -> tuple[Tensor, Affinities]:
    """Draw training items at random if there are more than `most`.

    Args:
        features: floating (n, d).
        affinity: affinity among the n items, or None.
        most: maximum number of items; fewer are returned as they are.
        generator: CPU generator of the draw.

    Returns:
        Features (m, d), with m the lower of n and `most`, and the affinity among these m items, or None.
    """
    if len(features) <= most:
        return features, affinity
    rows = torch.randperm(len(features), generator=generator)[:most]
    return features[rows.to(features.device)], None if affinity is None else affinity.subset(rows)
