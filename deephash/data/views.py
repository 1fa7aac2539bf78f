"""Features of the same items in several views, such as an image and its text."""

from collections.abc import Mapping
from typing import Self, final

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deephash.conversion import as_tensor
from deephash.validation import InvalidInputError, as_numbers


@final
class Views:
    """Rows of features by view; row i of every view is item i.

    An item may lack a view. Its row in this view is then 0 and not `present`, and is not fitted, encoded or ranked.

    Args:
        features: tensors or arrays of numbers (n, d of the view) by view name; at least two views.
        present: bool (n,) by view; None if every item has every view.

    Raises:
        InvalidInputError: fewer than two views, views of different lengths, or an item without views.

    Examples:
        >>> pairs = Views({"image": torch.zeros(3, 4), "text": torch.zeros(3, 2)})
        >>> len(pairs[torch.tensor([0, 2])]), pairs.dimensions
        (2, {'image': 4, 'text': 2})
    """

    def __init__(
        self, features: Mapping[str, Tensor | ArrayLike], present: Mapping[str, Tensor | ArrayLike] | None = None
    ) -> None:
        if len(features) < 2:
            raise InvalidInputError(f"views={list(features)}; expected at least two, such as image and text.")
        tensors = {name: as_tensor(as_numbers(rows, f"{name} features")) for name, rows in features.items()}
        for name, rows in tensors.items():
            if rows.ndim < 2:
                raise InvalidInputError(f"{name} features have shape {tuple(rows.shape)}; expected two axes, (n, d).")
        lengths = {name: len(rows) for name, rows in tensors.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidInputError(f"views have {lengths} rows; expected one row per item in each view.")
        self.features = tensors
        n = next(iter(lengths.values()))
        if present is None:
            present = {name: torch.ones(n, dtype=torch.bool, device=rows.device) for name, rows in tensors.items()}
        self.present = {name: as_tensor(as_numbers(present[name], f"present {name}")).bool() for name in tensors}
        if n and not bool(torch.stack(tuple(self.present.values())).any(0).all()):
            lacking = int((~torch.stack(tuple(self.present.values())).any(0)).nonzero()[0])
            raise InvalidInputError(f"item {lacking} has no view; remove it.")

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    def __getitem__(self, rows: Tensor | slice) -> "Views":
        """Return the items of these rows."""
        return Views(
            {name: features[rows] for name, features in self.features.items()},
            {name: present[rows] for name, present in self.present.items()},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views, in order."""
        return tuple(self.features)

    @property
    def dimensions(self) -> dict[str, int]:
        """Feature dimension d of each view."""
        return {name: features.shape[1] for name, features in self.features.items()}

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return next(iter(self.features.values())).device

    @property
    def complete(self) -> Tensor:
        """Whether each item has every view, bool (n,)."""
        return torch.stack(tuple(self.present.values())).all(0)

    def rows(self, view: str) -> Tensor:
        """Return the rows of the items that have a view, int64, ascending."""
        return self.present[view].nonzero()[:, 0]

    def of(self, view: str) -> Tensor:
        """Return the features of a view for the items that have it."""
        present = self.present[view]
        features = self.features[view]
        return features if bool(present.all()) else features[present]

    def pairs(self) -> "Views":
        """Return the items that have every view."""
        complete = self.complete
        return self if bool(complete.all()) else self[complete.nonzero()[:, 0]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Views":
        """Return a copy on a device."""
        return Views(
            {name: rows.to(device, non_blocking=non_blocking) for name, rows in self.features.items()},
            {name: rows.to(device, non_blocking=non_blocking) for name, rows in self.present.items()},
        )

    def cpu(self) -> "Views":
        """Return a copy in CPU memory."""
        return self.to("cpu")

    def detach(self) -> Self:
        """Return self; features of a data set have no gradient."""
        return self

    def map(self, features: Mapping[str, Tensor]) -> "Views":
        """Return other features of the same items."""
        return Views(features, self.present)
