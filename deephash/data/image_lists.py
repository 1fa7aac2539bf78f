"""Images in the lists of HashNet and of most code for deep hashing: train.txt, test.txt and database.txt."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.base import HashingDataModule
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.file_features import THUMBNAIL, read_or_describe_files
from deephash.data.file_rows import FileRows
from deephash.data.image_list_files import LISTS, ListedItems, check_images, merge_lists, read_lists
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.data.streamed_images import ImageFiles, Thumbnails, stream_pixels
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, check_count

log = logging.getLogger(__name__)


@final
class ImageLists(HashingDataModule):
    """Images that three lists name, with the published split as the official parts.

    `train.txt`, `test.txt` (the queries) and `database.txt` have a line for each image: its path and a 0 or 1 for each
    class, separated by spaces. Images with one label each have class indices; otherwise items that share a label are
    relevant to each other. Training images may be in the database too; queries may not.

    Pixels are never all in memory: they are decoded whenever a batch or a block is read.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        root: folder from which the listed paths start.
        lists: folder of the three lists; None for `root`.
        descriptor: computes the features; `Pixels` are streamed, others are computed once and cached.
        classes: number of classes; None for the number of values in a line.
        sizes: expected numbers of images in the lists, by "train", "test" and "database"; a warning names those that
            differ. None expects nothing.
        workers: number of threads that decode images; None for one per core.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no root, a descriptor without an image size, or an invalid number.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        root: FilePath,
        lists: FilePath | None = None,
        descriptor: Descriptor,
        classes: int | None = None,
        sizes: Mapping[str, int] | None = None,
        workers: int | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split)
        if not root:
            raise InvalidInputError(
                f"root={root!r}; give the folder of the images, from which the listed paths start: data.root=FOLDER, "
                "and data.lists=FOLDER if the lists are elsewhere."
            )
        if descriptor.image_size is None:
            raise InvalidInputError("descriptor.image_size=None; set the side in pixels to which images are scaled.")
        for name, value in (("classes", classes), ("workers", workers)):
            if value is not None:
                check_count(value, f"data.{name}")
        self.root = Path(root).expanduser()
        self.lists = self.root if lists is None else Path(lists).expanduser()
        self.descriptor = descriptor
        self.class_count = classes
        self.sizes = dict(sizes or {})
        self.workers = workers
        self.cache = cache
        self._listed: ListedItems | None = None

    def prepare_data(self) -> None:
        """Check that every listed image exists, and compute the features once if they are not pixels."""
        if not self.is_read:
            self._load_features(self._read_lists())

    def are_labelled(self) -> bool:
        """Return True, because every image has a label."""
        return True

    def load(self) -> Items:
        """Read the lists, and the cached features if they are not pixels.

        Raises:
            InvalidInputError: a missing or malformed list, missing images, or queries in another list.
        """
        listed = self._read_lists()
        labels = torch.from_numpy(listed.labels)
        files = self._find_files(listed)
        sizes = [file.stat().st_size for file in files]
        return Items(
            self._load_features(listed),
            labels.int().argmax(1) if bool((labels.sum(1) == 1).all()) else labels,
            tuple(str(column) for column in range(labels.shape[1])),
            official=listed.official,
            images=Thumbnails(ImageFiles(files, THUMBNAIL, workers=self.workers)),
            computed_from={"": words_digest(zip(listed.names, sizes, strict=True))},
        )

    def _read_lists(self) -> ListedItems:
        if self._listed is not None:
            return self._listed
        lists = read_lists(self.lists, self.class_count)
        for part, listed in lists.items():
            name = Path(LISTS[part]).stem
            expected = self.sizes.get(name)
            if expected is not None and len(listed.names) != expected:
                log.warning(
                    "%s lists %s images; the published list has %s, so figures differ from published ones.",
                    listed.file,
                    f"{len(listed.names):,}",
                    f"{expected:,}",
                )
        merged = merge_lists(lists)
        check_images(self.root, lists)
        both = int(np.count_nonzero(merged.official == "both"))
        log.info("%s of %s training images are in the database too", f"{both:,}", f"{len(lists['train'].names):,}")
        self._listed = merged
        return merged

    def _find_files(self, listed: ListedItems) -> list[Path]:
        return [self.root / name for name in listed.names]

    def _load_features(self, listed: ListedItems) -> Tensor | FileRows:
        files = self._find_files(listed)
        streamed = stream_pixels(files, self.descriptor, self.workers)
        if streamed is not None:
            return streamed
        return read_or_describe_files(files, self.descriptor, self.cache, thumbnails=False)["features"]
