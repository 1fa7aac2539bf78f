"""The items of a stream that can be searched, with their codes and how old these are; bounded in size."""

from typing import Any

import torch
from torch import Tensor

from deephash.codes import code_bytes
from deephash.functional.reservoir import reservoir_places
from deephash.validation import check_count


class StreamDatabase:
    """A store of at most `capacity` items: all that arrived while they fit, then a uniform sample of them.

    Features are kept beside the codes, since to re-encode an item takes its features.

    Args:
        capacity: most items.
        input_dim: feature dimension d.
        bits: code length b.
        labels: labels of some items, for their kind: int64 (n,) or bool (n, c); None without.
    """

    def __init__(self, capacity: int, input_dim: int, bits: int, labels: Tensor | None) -> None:
        check_count(capacity, "train.capacity")
        self.capacity = capacity
        self.seen = 0
        self._features = torch.zeros(capacity, input_dim)
        self._labels = None if labels is None else labels.new_zeros(capacity, *labels.shape[1:])
        self._codes = torch.zeros(capacity, code_bytes(bits), dtype=torch.uint8)
        self._code_versions = torch.zeros(capacity, dtype=torch.int64)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    @property
    def features(self) -> Tensor:
        """Floating (n, d)."""
        return self._features[: len(self)]

    @property
    def labels(self) -> Tensor | None:
        """Class indices int64 (n,), indicators bool (n, c), or None."""
        return None if self._labels is None else self._labels[: len(self)]

    @property
    def codes(self) -> Tensor:
        """Packed codes uint8 (n, B)."""
        return self._codes[: len(self)]

    @property
    def code_versions(self) -> Tensor:
        """The number of the function that each code was made by, int64 (n,)."""
        return self._code_versions[: len(self)]

    def add(
        self, features: Tensor, labels: Tensor | None, codes: Tensor, version: int, generator: torch.Generator
    ) -> None:
        """Take in arriving items.

        Args:
            features: floating (n, d).
            labels: of their kind.
            codes: uint8 (n, B).
            version: version of the hash function that produced the codes.
            generator: CPU generator of which stay, once it is full.
        """
        rows, places = reservoir_places(self.seen, len(features), self.capacity, generator)
        self._features[places] = features[rows].to(self._features.dtype)
        if self._labels is not None and labels is not None:
            self._labels[places] = labels[rows]
        self._codes[places] = codes[rows]
        self._code_versions[places] = version
        self.seen += len(features)

    def replace(self, places: Tensor, codes: Tensor, version: int) -> None:
        """Put new codes in the place of old ones.

        Args:
            places: int64 (m,).
            codes: uint8 (m, B).
            version: version of the hash function that produced them.
        """
        self._codes[places] = codes
        self._code_versions[places] = version

    def state(self) -> dict[str, Any]:
        """All that it holds, tensors and numbers."""
        return {
            "seen": self.seen,
            "features": self.features,
            "labels": self.labels,
            "codes": self.codes,
            "made": self.code_versions,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.seen = state["seen"]
        for name, held in (("features", self._features), ("codes", self._codes), ("made", self._code_versions)):
            held[: len(self)] = state[name]
        if self._labels is not None:
            self._labels[: len(self)] = state["labels"]
