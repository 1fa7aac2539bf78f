"""MIRFlickr-25k: 25,000 images of Flickr, with their tags and 24 labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.array_file import read_array
from deephash.data.arrays import convert_features
from deephash.data.descriptors.base import Descriptor
from deephash.data.file_features import files_digest, read_or_describe_files
from deephash.data.image_text_base import ImageTextData, read_lines
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError

LABELS = (24, 38)
IMAGES, TAGS, COMMON = "mirflickr", "mirflickr/meta/tags", "mirflickr/doc/common_tags.txt"
ANNOTATIONS = "mirflickr25k_annotations_v080"
LAYOUT = (
    f"{IMAGES}/im1.jpg …, {TAGS}/tags1.txt … and {COMMON} (from mirflickr25k.zip, MD5 "
    f"a23d0a8564ee84cda5622a6c2f947785), and {ANNOTATIONS}/NAME.txt (from {ANNOTATIONS}.zip, unpacked into a folder of "
    "that name)"
)


def read_tags(folder: Path) -> tuple[list[str], dict[int, list[str]]]:
    """Read the common tags, in the publisher's order, and the common tags of each image by image number.

    Raises:
        InvalidInputError: missing files.
    """
    common = [line.split()[0] for line in read_lines(folder / COMMON, LAYOUT)]
    if not common:
        raise InvalidInputError(f"{folder / COMMON} has no tags; the layout is {LAYOUT}.")
    known = set(common)
    files = sorted((folder / TAGS).glob("tags*.txt"), key=lambda file: _parse_number(file, "tags"))
    if not files:
        raise InvalidInputError(f"{folder / TAGS} contains no tags; the layout is {LAYOUT}.")
    return common, {
        _parse_number(file, "tags"): [tag for tag in read_lines(file, LAYOUT) if tag in known] for file in files
    }


def read_annotations(folder: Path, labels: int) -> dict[str, list[int]]:
    """Read the image numbers of each label, by label name in alphabetical order.

    Args:
        folder: folder of the unpacked archives.
        labels: 24 "potential" labels in a wide sense, or 38 with the 14 `_r1` labels of salient objects.

    Raises:
        InvalidInputError: another number of labels in the folder, or a line that is not a number.
    """
    files = [file for file in sorted((folder / ANNOTATIONS).glob("*.txt")) if file.stem.lower() != "readme"]
    files = [file for file in files if labels == max(LABELS) or not file.stem.endswith("_r1")]
    if len(files) != labels:
        raise InvalidInputError(
            f"{folder / ANNOTATIONS} has {len(files)} labels, not {labels}; the layout is {LAYOUT}."
        )
    numbers = {}
    for file in files:
        lines = read_lines(file, LAYOUT)
        if wrong := [line for line in lines if not line.isdecimal()]:
            raise InvalidInputError(f"{file} contains {wrong[0]!r}; expected one image number per line.")
        numbers[file.stem] = [int(line) for line in lines]
    return numbers


def membership_table(rows: Sequence[int], members: Sequence[Sequence[int]]) -> np.ndarray:
    """Return whether each image number is in each list of numbers, bool (n, number of lists)."""
    return np.stack([np.isin(rows, numbers) for numbers in members], 1)


@final
class MIRFlickr25k(ImageTextData):
    """Images as GIST or other features, texts as indicators of 1,386 common tags, with several labels per item.

    The layout is that of the publisher (M. Huiskes and M. Lew, LIACS, Leiden). The publisher's common tags are those of
    at least 20 images. As in the DCMH paper, only images with a common tag and a label are kept: 20,015 with the 24
    labels. There is no official split.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: the folder of the publisher's two unpacked archives.
        labels: 24 labels in a wide sense, usual in papers on hashing, or 38 with the 14 labels in a narrow sense.
        image_descriptor: computes the features.
        image_features: a file of features of all images, in the order of their numbers, such as those published with
            papers; it replaces the descriptor, and the images are not read and may be missing.
        view: "image" or "text" for only that view; None for both.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, an unknown view, a number of labels other than 24 or 38, or neither descriptor nor
            features.

    References:
        Huiskes & Lew, "The MIR Flickr retrieval evaluation", MIR 2008. Jiang & Li, "Deep cross-modal hashing", CVPR
        2017, for the selection of images.
    """

    title = "MIRFlickr"
    layout = LAYOUT

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        labels: int = 24,
        image_descriptor: Descriptor | None = None,
        image_features: FilePath | None = None,
        view: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split, path, view, cache)
        if labels not in LABELS:
            raise InvalidInputError(f"labels={labels}; expected 24, or 38 with the labels in a narrow sense.")
        if image_descriptor is None and image_features is None:
            raise InvalidInputError("image_descriptor=None and image_features=None; give one of them.")
        self.labels = labels
        self.descriptor = image_descriptor
        self.image_features = image_features

    def prepare_data(self) -> None:
        """Compute the features of the images once."""
        if not self.is_read and self.image_features is None:
            self.load()

    def load(self) -> Items:
        """Read tags and labels, and the cached features of the images.

        Raises:
            InvalidInputError: a missing or damaged file; the message has the layout.
        """
        common, tags = read_tags(self.path)
        annotations = read_annotations(self.path, self.labels)
        numbers = list(tags)
        labels = membership_table(numbers, list(annotations.values()))
        tagged: dict[str, list[int]] = {tag: [] for tag in common}
        for number, image_tags in tags.items():
            for tag in image_tags:
                tagged[tag].append(number)
        texts = membership_table(numbers, list(tagged.values()))
        kept = np.flatnonzero(labels.any(1) & texts.any(1))
        if len(kept) == 0:
            raise InvalidInputError(
                f"No image of {self.path} has both a common tag and a label; the layout is {LAYOUT}."
            )
        features: dict[str, Tensor] = {}
        images = None
        computed_from: dict[str, str] = {}
        if self.view != "text":
            features["image"], images = self._read_images(numbers, kept)
            if images is not None:
                computed_from["image"] = files_digest(self._list_files(numbers, kept))
        if self.view != "image":
            features["text"] = torch.from_numpy(texts[kept]).float()
        return Items(
            labels=torch.from_numpy(labels[kept]),
            class_names=tuple(annotations),
            images=images,
            texts=tuple(" ".join(tags[numbers[row]]) for row in kept),
            **self._select_view(features, computed_from),
        )

    def _list_files(self, numbers: Sequence[int], kept: np.ndarray) -> list[Path]:
        return [self.path / IMAGES / f"im{numbers[row]}.jpg" for row in kept]

    def _read_images(self, numbers: Sequence[int], kept: np.ndarray) -> tuple[Tensor, np.ndarray | None]:
        if self.image_features is not None:
            stored = read_array(self.image_features)
            if len(stored) != len(numbers):
                raise InvalidInputError(
                    f"{self.image_features} has {len(stored)} rows and {self.path} tags of {len(numbers)} images; give "
                    "features of all images, in the order of their numbers."
                )
            return convert_features(np.asarray(stored)[kept], f"features of {self.image_features}"), None
        described = read_or_describe_files(self._list_files(numbers, kept), self.descriptor, self.cache)
        return described["features"], described["thumbnails"].numpy()


def _parse_number(file: Path, prefix: str) -> int:
    """Return the number in a file's name, such as 17 of tags17.txt."""
    digits = file.stem.removeprefix(prefix)
    if not digits.isdecimal():
        raise InvalidInputError(f"{file} is not named {prefix}NUMBER; remove it.")
    return int(digits)
