"""The augmentations of the views of an item, each view by its own."""

from collections.abc import Mapping
from typing import final

from torch import nn

from deephash.augmentations.base import Augmentation
from deephash.data.views import Views


@final
class ViewAugmentations(nn.Module):
    """Changes each view of training items by the augmentation that belongs to it.

    Args:
        augmentations: by the name of the view.
    """

    def __init__(self, augmentations: Mapping[str, Augmentation]) -> None:
        super().__init__()
        self.views = nn.ModuleDict(augmentations)

    def forward(self, features: Views) -> Views:
        """The same items, changed in training mode; of an item that lacks a view, that view stays as it is."""
        changed = {}
        for name, rows in features.features.items():
            new = rows.clone()
            present = features.present[name]
            new[present] = self.views[name](rows[present])
            changed[name] = new
        return features.map(changed)
