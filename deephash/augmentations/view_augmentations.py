"""One augmentation for each view of an item."""

from collections.abc import Mapping
from typing import final

from torch import nn

from deephash.augmentations.base import Augmentation
from deephash.data.views import Views


@final
class ViewAugmentations(nn.Module):
    """Separate augmentations of the views of training items.

    Args:
        augmentations: augmentations by the name of the view.
    """

    def __init__(self, augmentations: Mapping[str, Augmentation]) -> None:
        super().__init__()
        self.views = nn.ModuleDict(augmentations)

    def forward(self, features: Views) -> Views:
        """Return the same items, changed in training mode; a view that an item lacks stays as it is."""
        return self._change(features, False)

    def second(self, features: Views) -> Views:
        """Return the second view of items in training mode; a view that an item lacks stays as it is."""
        return self._change(features, True)

    def _change(self, features: Views, second: bool) -> Views:
        changed = {}
        for name, rows in features.features.items():
            part = self.views[name]
            assert isinstance(part, Augmentation)
            new = rows.clone()
            present = features.present[name]
            new[present] = part.second(rows[present]) if second else part(rows[present])
            changed[name] = new
        return features.map(changed)
