"""The searchable items of a stream, with their codes and versions, up to a capacity."""

from typing import Any

import torch
from torch import Tensor

from deephash.codes import code_bytes
from deephash.functional.reservoir import reservoir_places
from deephash.validation import check_count


class StreamDatabase:
    """A store of at most `capacity` items: all arrivals while they fit, then a uniform sample of them.

    It keeps the features, which re-encoding needs, and records which items a method may learn from. Items that arrive
    before there is a hash function have no code: their version is 0, and they are not searched.

    Args:
        capacity: maximum number of items.
        input_dim: feature dimension d.
        bits: code length b.
        labels: int64 (n,) or bool (n, c), any labels of the data, from which dtype and classes are taken; or None.
    """

    def __init__(self, capacity: int, input_dim: int, bits: int, labels: Tensor | None) -> None:
        check_count(capacity, "train.capacity")
        self.capacity = capacity
        self.seen = 0
        self._features = torch.zeros(capacity, input_dim)
        self._labels = None if labels is None else labels.new_zeros(capacity, *labels.shape[1:])
        self._learnable = torch.zeros(capacity, dtype=torch.bool)
        self._codes = torch.zeros(capacity, code_bytes(bits), dtype=torch.uint8)
        self._code_versions = torch.zeros(capacity, dtype=torch.int64)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    @property
    def features(self) -> Tensor:
        """Features, floating (n, d)."""
        return self._features[: len(self)]

    @property
    def labels(self) -> Tensor | None:
        """Class indices int64 (n,), indicators bool (n, c), or None."""
        return None if self._labels is None else self._labels[: len(self)]

    @property
    def learnable(self) -> Tensor:
        """Whether a method may learn from each item, bool (n,)."""
        return self._learnable[: len(self)]

    @property
    def codes(self) -> Tensor:
        """Packed codes uint8 (n, B), B = ⌈b/8⌉ bytes each."""
        return self._codes[: len(self)]

    @property
    def code_versions(self) -> Tensor:
        """Version of the hash function of each code, int64 (n,); 0 for items without a code."""
        return self._code_versions[: len(self)]

    def add(
        self,
        features: Tensor,
        labels: Tensor | None,
        learnable: Tensor,
        codes: Tensor,
        version: int,
        generator: torch.Generator,
    ) -> None:
        """Add arriving items.

        Args:
            features: floating (n, d).
            labels: labels of the items, or None.
            learnable: bool (n,), whether a method may learn from each item.
            codes: uint8 (n, B).
            version: version of the hash function that produced the codes; 0 if there is none yet.
            generator: CPU generator of the sample, used once the store is full.
        """
        rows, places = reservoir_places(self.seen, len(features), self.capacity, generator)
        self._features[places] = features[rows].to(self._features.dtype)
        if self._labels is not None and labels is not None:
            self._labels[places] = labels[rows]
        self._learnable[places] = learnable[rows]
        self._codes[places] = codes[rows]
        self._code_versions[places] = version
        self.seen += len(features)

    def replace(self, places: Tensor, codes: Tensor, version: int) -> None:
        """Replace codes.

        Args:
            places: int64 (m,).
            codes: uint8 (m, B).
            version: version of the hash function that produced them.
        """
        self._codes[places] = codes
        self._code_versions[places] = version

    def state(self) -> dict[str, Any]:
        """Return the contents as tensors and numbers."""
        return {
            "seen": self.seen,
            "features": self.features,
            "labels": self.labels,
            "learnable": self.learnable,
            "codes": self.codes,
            "made": self.code_versions,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the contents returned by `state`."""
        self.seen = state["seen"]
        stores = {"features": self._features, "learnable": self._learnable, "codes": self._codes}
        for name, values in (stores | {"made": self._code_versions}).items():
            values[: len(self)] = state[name]
        if self._labels is not None:
            self._labels[: len(self)] = state["labels"]
