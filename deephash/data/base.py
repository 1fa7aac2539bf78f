"""The contract of a data set: a Lightning data module that loads items and deals them out by a protocol."""

from abc import ABC, abstractmethod
from typing import Any

import lightning
import numpy as np
from torch.utils.data import DataLoader

from deephash.data.blocks import block_loader
from deephash.data.items import Items, Part
from deephash.protocols.base import Protocol, Split
from deephash.validation import InvalidInputError, check_finite, check_labels


class HashingDataModule(lightning.LightningDataModule, ABC):
    """Items of one data set, split into train, query and database by a protocol.

    A data set writes `load`, and `prepare_data` where something must be downloaded or computed once.

    Args:
        protocol: how the items are split.
        seed: seed of the split.
        split: a split made before, as a saved run's; None draws one.
    """

    def __init__(self, protocol: Protocol, seed: int = 0, split: Split | None = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.seed = seed
        self._given_split = split
        self._items: Items | None = None
        self._read: Items | None = None
        self._split: Split | None = split

    @abstractmethod
    def load(self) -> Items:
        """Read the whole data set from disk."""

    def setup(self, stage: str | None = None) -> None:
        """Load and split, once.

        Raises:
            InvalidInputError: NaN in the features, bad labels, or sizes that the protocol cannot draw.
        """
        if self._items is not None:
            return
        items = self.load() if self._read is None else self._read
        check_finite(items.features, "features")
        if items.labels is not None:
            check_labels(items.labels, len(items))
        if self._given_split is not None:
            self._given_split.check_fits(len(items))
        else:
            self._split = self.protocol.split(len(items), items.labels, items.official, self.seed)
        self._items = items

    def take(self, items: Items) -> None:
        """Take what another module of the same data set has read; `setup` then reads nothing."""
        self._read = items

    @property
    def is_read(self) -> bool:
        """Whether the items are in memory, so that nothing need be downloaded or computed."""
        return self._items is not None or self._read is not None

    @property
    def items(self) -> Items:
        """The whole data set."""
        if self._items is None:
            raise InvalidInputError("The data are not loaded; call setup() first.")
        return self._items

    @property
    def split(self) -> Split:
        """Which item plays which role."""
        if self._split is None:
            raise InvalidInputError("The data are not split; call setup() first.")
        return self._split

    @property
    def feature_dim(self) -> int:
        """Feature dimension d."""
        return self.items.features.shape[1]

    def part(self, role: str) -> Part:
        """The items of a role: train, query, database, validation_query or validation_database."""
        ids: np.ndarray = self.split.role(role)
        return self.items.select(ids)

    def train_dataloader(self) -> "DataLoader[dict[str, Any]]":
        """The whole training part as one block, which is what a closed-form fit takes."""
        part = self.part("train")
        return block_loader(part, rows=len(part))

    def val_dataloader(self) -> "list[DataLoader[dict[str, Any]]]":
        """Blocks of the validation database, then of the validation queries."""
        return self._ranking_loaders("validation_database", "validation_query")

    def test_dataloader(self) -> "list[DataLoader[dict[str, Any]]]":
        """Blocks of the database, then of the test queries."""
        return self._ranking_loaders("database", "query")

    def _ranking_loaders(self, *roles: str) -> "list[DataLoader[dict[str, Any]]]":
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return [block_loader(self.part(role), rank=rank, processes=processes) for role in roles]
