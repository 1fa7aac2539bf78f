"""Wikipedia's featured articles: 2,866 pairs of an image and a text in 10 classes."""

from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.array_file import read_array
from deephash.data.arrays import convert_features
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.download import download_for_block, extract
from deephash.data.file_features import files_digest, read_or_describe_files, read_or_describe_texts
from deephash.data.image_text_base import VIEWS, ImageTextData
from deephash.data.items import Items
from deephash.data.labels import parse_labels
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.data.views import Views
from deephash.data.wiki_files import (
    CLASSES,
    LAYOUT,
    find_article_images,
    find_wiki_folder,
    read_article_texts,
    read_categories,
    read_list,
    read_matrices,
)
from deephash.io.files import format_missing_path
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError

# UCSD's Statistical Visual Computing Laboratory, which publishes no checksum.
ADDRESSES = (
    "https://www.svcl.ucsd.edu/projects/crossmodal/wikipedia_dataset.zip",
    "http://www.svcl.ucsd.edu/projects/crossmodal/wikipedia_dataset.zip",
)
PARTS = ("train", "test")


@final
class Wiki(ImageTextData):
    """Images as 128 counts of SIFT words, and texts as 10 LDA topics.

    The publisher's 2,173 training pairs are "train" and also the database; the 693 test pairs are "query". Texts and
    images, if they are in the folder, are shown beside results, and descriptors such as a language model can compute
    other features from them.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: a local folder in the publisher's layout (raw_features.mat, trainset_txt_img_cat.list,
            testset_txt_img_cat.list, optionally categories.list, texts and images), or an `.npz` of image_train,
            image_test, text_train, text_test, label_train, label_test and class_names; None downloads
            the publisher's archive.
        view: "image" or "text" for only that view; None for both.
        image_descriptor: computes image features that replace the published ones.
        text_descriptor: computes text features that replace the published topics.
        cache: folder of downloads and computed features.

    Raises:
        InvalidInputError: an unknown view.

    References:
        Rasiwasia, Costa Pereira, Coviello, Doyle, Lanckriet, Levy & Vasconcelos, "A new approach to cross-modal
        multimedia retrieval", ACM MM 2010.
    """

    title = "the Wikipedia articles"
    layout = LAYOUT

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str | None = None,
        view: str | None = None,
        image_descriptor: Descriptor | None = None,
        text_descriptor: TextDescriptor | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split, str(Path(cache) / "wiki") if path is None else path, view, cache)
        self.image_descriptor = image_descriptor
        self.text_descriptor = text_descriptor
        self.downloads = path is None

    def prepare_data(self) -> None:
        """Download and unpack the archive if no path is given, and compute features of the descriptors, once.

        Raises:
            DownloadError: the archive cannot be fetched.
        """
        if self.is_read:
            return
        if self.downloads and not self.path.is_dir():
            with download_for_block(ADDRESSES, self.cache / "wikipedia_dataset.zip", None) as archive:
                extract(archive, self.path)
        if self.image_descriptor is not None or self.text_descriptor is not None:
            self.load()

    def load(self) -> Items:
        """Read both views, or the chosen one.

        Raises:
            InvalidInputError: a missing or damaged file, or inconsistent parts.
        """
        items = self._read_npz() if self.path.suffix == ".npz" else self._read_folder()
        return replace(items, **self._select_view(items.features.features, items.computed_from))

    def _read_npz(self) -> Items:
        if self.image_descriptor is not None or self.text_descriptor is not None:
            raise InvalidInputError(
                f"{self.path} contains no images or texts to describe; give the publisher's folder."
            )
        names = [f"{kind}_{part}" for kind in (*VIEWS, "label") for part in PARTS]
        stored = {name: read_array(self.path, name) for name in names}
        classes = tuple(str(name) for name in read_array(self.path, "class_names"))
        labels = {part: stored.pop(f"label_{part}") for part in PARTS}
        return self._assemble(stored, labels, classes)

    def _read_folder(self) -> Items:
        if not self.path.is_dir():
            raise InvalidInputError(
                f"{format_missing_path(self.path)} does not exist; give the folder of the Wikipedia articles or their "
                ".npz, or no path to download them."
            )
        folder = find_wiki_folder(self.path)
        classes = read_categories(folder)
        parts = {part: read_list(folder, part, len(classes)) for part in PARTS}
        labels = {part: np.array([article.label for article in articles]) for part, articles in parts.items()}
        articles = parts["train"] + parts["test"]
        texts = read_article_texts(folder, articles)
        files = find_article_images(folder, articles, classes)
        described: dict[str, Tensor] = {}
        computed_from: dict[str, str] = {}
        images = None
        if files is None and self.image_descriptor is not None:
            raise InvalidInputError(f"{folder} has no folder images to describe; unpack the whole archive.")
        if files is not None:
            computed = read_or_describe_files(files, self.image_descriptor, self.cache)
            images = computed["thumbnails"].numpy()
            if self.image_descriptor is not None:
                described["image"] = computed["features"]
                computed_from["image"] = files_digest(files)
        if self.text_descriptor is not None:
            if texts is None:
                raise InvalidInputError(f"{folder} has no folder texts to describe; unpack the whole archive.")
            described["text"] = read_or_describe_texts(texts, self.text_descriptor, self.cache)
            computed_from["text"] = words_digest(texts)
        items = self._assemble(read_matrices(folder), labels, classes, described, images, texts)
        return replace(items, computed_from=computed_from)

    def _assemble(
        self,
        matrices: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        classes: tuple[str, ...] = CLASSES,
        described: dict[str, Tensor] | None = None,
        images: np.ndarray | None = None,
        texts: tuple[str, ...] | None = None,
    ) -> Items:
        for name, matrix in matrices.items():
            part = name.split("_")[1]
            if matrix.ndim != 2 or len(matrix) != len(labels[part]):
                raise InvalidInputError(
                    f"{name} of {self.path} has shape {matrix.shape} for {len(labels[part])} listed articles; "
                    "expected one row per article: download the files again."
                )
        features = {
            view: convert_features(np.concatenate([matrices[f"{view}_{part}"] for part in PARTS]), f"{view} features")
            for view in VIEWS
        }
        joined = np.concatenate([labels[part] for part in PARTS])
        indices, _ = parse_labels(joined, len(joined), f"labels of {self.path}")
        if len(indices) and int(joined.max()) >= len(classes):
            raise InvalidInputError(
                f"labels of {self.path} reach {joined.max()}, but there are {len(classes)} classes."
            )
        return Items(
            Views(features | (described or {})),
            torch.from_numpy(joined.astype(np.int64)),
            classes,
            np.repeat(["train", "query"], [len(labels[part]) for part in PARTS]),
            images,
            texts,
        )
