"""Wikipedia's featured articles: 2,866 pairs of an image and a text in 10 classes (Rasiwasia et al., ACM MM 2010)."""

from pathlib import Path
from typing import final

import numpy as np
import torch

from deephash.data.array_file import read_array
from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.data.views import Views
from deephash.protocols.base import Protocol, Split
from deephash.validation import InvalidInputError, check_choice

VIEWS = ("image", "text")


@final
class Wiki(HashingDataModule):
    """Images as 128 counts of SIFT words, texts as 10 topics of an LDA, in the publisher's 2,173 and 693 pairs."""

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str | None = None,
        view: str | None = None,
    ) -> None:
        super().__init__(protocol, seed, split)
        if view is not None:
            check_choice(view, VIEWS, "data.view")
        if path is None:
            raise InvalidInputError("data.path=None; give the folder or the .npz of the Wiki data.")
        self.path, self.view = Path(path), view

    def load(self) -> Items:
        """Read both views."""
        stored = {
            name: read_array(self.path, name)
            for name in ("image_train", "image_test", "text_train", "text_test", "label_train", "label_test")
        }
        features = {
            view: torch.from_numpy(np.concatenate([stored[f"{view}_train"], stored[f"{view}_test"]])) for view in VIEWS
        }
        labels = torch.from_numpy(np.concatenate([stored["label_train"], stored["label_test"]]))
        official = np.repeat(["train", "query"], [len(stored["label_train"]), len(stored["label_test"])])
        return Items(Views(features) if self.view is None else features[self.view], labels, official=official)
