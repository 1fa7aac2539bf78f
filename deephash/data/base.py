"""The base class of data sets: a Lightning data module that loads items and splits them by a protocol."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from deephash.conversion import PlainArguments
from deephash.data.blocks import build_block_loader, build_fit_loader
from deephash.data.descriptors.base import Descriptor
from deephash.data.file_rows import FileRows
from deephash.data.items import Items, Part
from deephash.data.judged_pairs import JudgedPairs
from deephash.data.protocols.base import DESCRIPTOR_DIGESTS, Protocol, Split
from deephash.data.protocols.draws import REST, Size, deal, find_strata
from deephash.data.streamed_images import to_brightness
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.data.views import Views
from deephash.validation import InvalidInputError, as_labels, check_finite


class HashingDataModule(PlainArguments, lightning.LightningDataModule, ABC):
    """Items of one data set, split into train, query and database by a protocol.

    Subclasses implement `load`, and `prepare_data` for downloads and computations that happen once.

    Args:
        protocol: how the items are split.
        seed: seed of the split.
        split: an existing split, such as a saved run's; None draws one.
    """

    def __init__(self, protocol: Protocol, seed: int = 0, split: Split | None = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.seed = seed
        self._given_split = split
        self._items: Items | None = None
        self._read: Items | None = None
        self._split: Split | None = split
        self.given_files = ""
        """Files named by the user's settings, for messages."""
        self._held_out: dict[str, np.ndarray] = {}
        self._batches: Callable[[int, int], DataLoader[dict[str, Any]]] | None = None

    @abstractmethod
    def load(self) -> Items:
        """Read the whole data set from disk."""

    def are_labelled(self) -> bool | None:
        """Return whether the items have labels; None if this is known only after loading."""
        return None

    def setup(self, stage: str | None = None) -> None:
        """Load the items and split them, once.

        Raises:
            InvalidInputError: NaN in the features, invalid labels, sizes that the protocol cannot draw, or data that
                differ from those of the given split.
        """
        if self._items is not None:
            return
        items = self.load() if self._read is None else self._read
        views = items.features.features if isinstance(items.features, Views) else {"": items.features}
        for view, features in views.items():
            if not isinstance(features, FileRows):  # checked when they were first read
                check_finite(features, f"{view} features".lstrip())
        if items.labels is not None:
            as_labels(items.labels, len(items))
        if self._given_split is not None:
            self._given_split.check_data(self.get_digests(items), self.given_files)
            self._given_split.check_fits(len(items))
        else:
            drawn = self.protocol.split(len(items), items.labels, items.official, self.seed)
            self._split = drawn.with_digests(self.get_digests(items))
        self._items = items

    def get_digests(self, items: Items) -> dict[str, str]:
        """Return digests of the features, the labels and the files that descriptors read, such as weights."""
        digests = dict(items.digests)
        for part in vars(self).values():
            if isinstance(part, Descriptor | TextDescriptor) and (contents := part.contents()):
                digests[DESCRIPTOR_DIGESTS[isinstance(part, TextDescriptor)]] = contents
        return digests

    def take(self, items: Items) -> None:
        """Reuse the items that another module of the same data set has read, so that `setup` reads no files."""
        self._read = items

    @property
    def is_read(self) -> bool:
        """Whether the items are in memory, so that no download or computation is needed."""
        return self._items is not None or self._read is not None

    @property
    def items(self) -> Items:
        """The whole data set."""
        if self._items is None:
            raise InvalidInputError("The data are not loaded; call setup() first.")
        return self._items

    @property
    def split(self) -> Split:
        """The rows of each role."""
        if self._split is None:
            raise InvalidInputError("The data are not split; call setup() first.")
        return self._split

    @property
    def feature_dim(self) -> int | dict[str, int]:
        """Feature dimension d, or a dict by view."""
        features = self.items.features
        dimension: int | dict[str, int] = features.dimensions if isinstance(features, Views) else features.shape[1]
        return dimension

    def part(self, role: str) -> Part:
        """Return the items of a role: train, query, database, validation_query or validation_database."""
        return self.items.select(self.ids(role))

    @property
    def classes(self) -> int:
        """Number of classes c; 0 without labels."""
        labels = self.items.labels
        if labels is None:
            return 0
        return labels.shape[1] if labels.ndim > 1 else max(len(self.items.class_names), int(labels.max()) + 1)

    def ids(self, role: str) -> np.ndarray:
        """Return the data set rows of a role, int64 (m,), ascending."""
        if role in self._held_out:
            return self._held_out[role]
        ids: np.ndarray = self.split.role(role)
        return ids

    def hold_out(self, share: float) -> None:
        """Hold out validation queries from the training part, for a split without validation parts.

        If training uses most of the database, the validation queries are ranked against the rest of the training part.
        Otherwise a validation database is held out as well, because items that training has not used are harder to
        find. A quarter of the held-out items are then queries, and the others are their database. The items are drawn
        at random, in the class proportions if there are enough queries.

        Args:
            share: fraction of the training items, above 0 and below 1.

        Raises:
            InvalidInputError: an invalid share, or a training part too small for it.
        """
        if isinstance(share, bool) or not isinstance(share, float) or not 0 < share < 1:
            raise InvalidInputError(f"train.holdout={share!r}; expected a fraction between 0 and 1.")
        train = self.split.role("train")
        searches_trained = np.isin(self.split.role("database"), train).mean() > 0.5
        held = round(share * len(train))
        queries = held if searches_trained else held // 4
        if queries < 1 or len(train) - held < 2:
            raise InvalidInputError(
                f"train.holdout={share} of {len(train)} training items leaves {queries} validation queries; raise "
                "the protocol's training part, or choose a protocol with validation parts, such as protocol=five_way."
            )
        strata = find_strata(len(self.items), self.items.labels, stratified=True)
        if queries < len(np.unique(strata[train])):
            strata = np.zeros_like(strata)
        sizes: dict[str, Size] = {"validation_query": queries}
        if not searches_trained:
            sizes["validation_database"] = held - queries
        dealt = deal({**sizes, "train": REST}, strata, self.seed, train, "the training part")
        self._held_out = {"validation_database": dealt["train"], **dealt}

    def get_training_pairs(self) -> JudgedPairs | None:
        """Return the judgements from which training learns, without those of held-out queries; None without any."""
        return None

    @property
    def held_out(self) -> int:
        """Number of training items held out."""
        return len(self.split.role("train")) - len(self.ids("train"))

    @property
    def has_validation(self) -> bool:
        """Whether there are validation queries, from the split or held out."""
        return self.held_out > 0 or len(self.split.validation_query) > 0

    def train_dataloader(self) -> "DataLoader[dict[str, Any]]":
        """Return the whole training part as one block for a closed-form fit, or the loader set by `batched`."""
        if self._batches is not None:
            return self._batches(*self._find_process())
        return build_fit_loader(self.part("train"))

    def val_dataloader(self) -> "list[DataLoader[dict[str, Any]]]":
        """Return loaders of the validation database and the validation queries."""
        return self._build_ranking_loaders("validation_database", "validation_query")

    def test_dataloader(self) -> "list[DataLoader[dict[str, Any]]]":
        """Return loaders of the database and the test queries."""
        return self._build_ranking_loaders("database", "query")

    @contextmanager
    def batched(self, batches: "Callable[[int, int], DataLoader[dict[str, Any]]]") -> Iterator[None]:
        """Train on other batches within the block; `batches` maps rank and number of processes to a loader."""
        self._batches = batches
        try:
            yield
        finally:
            self._batches = None

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert 8-bit pixels of images in files to features, on the device."""
        features = batch["features"]
        return {**batch, "features": to_brightness(features)} if isinstance(features, Tensor) else batch

    def _find_process(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _build_ranking_loaders(self, *roles: str) -> "list[DataLoader[dict[str, Any]]]":
        rank, processes = self._find_process()
        return [build_block_loader(self.part(role), rank=rank, processes=processes) for role in roles]
