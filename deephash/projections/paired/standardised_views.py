"""Views centred and scaled to unit total variance, from which several paired methods learn."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from deephash.functional.principal_components import feature_mean, root_mean_square
from deephash.validation import InvalidInputError


class StandardisedView(NamedTuple):
    """One view of the training pairs, centred and scaled to unit total variance."""

    items: Tensor
    """float64 (n, d)."""
    mean: Tensor
    """float64 (d,), of the features."""
    scale: float
    """Root mean squared distance of the features from their mean."""


def standardise_views(views: Mapping[str, Tensor]) -> dict[str, StandardisedView]:
    """Centre each view and scale it to unit total variance.

    Args:
        views: floating (n, d) of each view by name.

    Raises:
        InvalidInputError: all items of a view are the same.
    """
    standardised = {}
    for name, rows in views.items():
        mean = feature_mean(rows)
        scale = root_mean_square(rows, mean)
        if scale == 0:
            raise InvalidInputError(f"all {len(rows)} training items are the same in {name}; give data that vary.")
        standardised[name] = StandardisedView((rows.double() - mean) / scale, mean, scale)
    return standardised
