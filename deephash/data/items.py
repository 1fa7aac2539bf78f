"""The items of a data set, and the part in one role."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from deephash.data.digests import features_digest, labels_digest
from deephash.data.file_rows import read_features, select_rows
from deephash.data.judged_pairs import JudgedPairs
from deephash.data.streamed_images import PixelRows, Thumbnails

# A tensor (n, d), `FileRows` in files, or `Views`: all have a length, rows by index and the method `to`.
Features = Any
OfficialPart = Literal["train", "query", "database", "both", "training_query", "validation_query"]


@dataclass(frozen=True)
class Items:
    """A whole data set, before any split.

    Args:
        features: floating (n, d), `FileRows`, or `Views`.
        labels: class indices int64 (n,), multi-label indicator bool (n, c), or None.
        class_names: the c names of the classes; empty without labels.
        official: the publisher's part of each item, an array (n,) of `OfficialPart`, where "both" is that of training
            items that are searched too; None without a published split.
        images: uint8 (n, h, w) or (n, h, w, 3) to show beside results, one per item, as an array or `Thumbnails`; or
            None.
        texts: n texts to show beside results, or None.
        computed_from: for each view with features that were computed here, the digest of their inputs, which `digests`
            covers instead of the features. A single view has the name "".
        judgements: judgements of the relevance of items to queries, which are items too; None without judgements.
    """

    features: Features
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    official: np.ndarray | None = None
    images: np.ndarray | Thumbnails | None = None
    texts: tuple[str, ...] | None = None
    computed_from: Mapping[str, str] = field(default_factory=dict)
    judgements: JudgedPairs | None = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256, in hex, of features, labels and any judgements, to detect other data under the same name."""
        judged = {} if self.judgements is None else {"judgements": self.judgements.digest}
        return {"features": features_digest(self), "labels": labels_digest(self), **judged}

    def __len__(self) -> int:
        return len(self.features)

    def select(self, ids: np.ndarray) -> "Part":
        """Return the items of these rows, in this order."""
        rows = torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64))
        return Part(rows, select_rows(self.features, rows), None if self.labels is None else self.labels[rows])


@dataclass(frozen=True)
class Part:
    """Items in one role: train, query or database.

    Args:
        ids: int64 (m,), rows in the data set.
        features: floating (m, d), `FileRows`, or `Views`.
        labels: int64 (m,), bool (m, c) or None.
    """

    ids: Tensor
    features: Features
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, positions: Tensor) -> "Part":
        """Return the items at these positions int64 (r,) of the part."""
        labels = None if self.labels is None else self.labels[positions]
        return Part(self.ids[positions], select_rows(self.features, positions), labels)

    def in_memory(self) -> "Part":
        """Return the part with its features read into memory, except pixels that are decoded batch by batch."""
        features = self.features if isinstance(self.features, PixelRows) else read_features(self.features)
        return Part(self.ids, features, self.labels)
