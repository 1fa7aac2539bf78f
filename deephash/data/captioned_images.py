"""Your own images with captions: a table of paths, captions and labels."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import final

from torch import Tensor

from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.file_features import files_digest, read_or_describe_files, read_or_describe_texts
from deephash.data.image_manifest import list_manifest
from deephash.data.image_text_base import ImageTextData
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.files import reading
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError

LAYOUT = "a CSV file with the header 'path,caption,label'"


@final
class CaptionedImages(ImageTextData):
    """Images and captions that a CSV file lists, as cached features of two descriptors.

    Each row is an item: an image, its caption and its label, or several labels as in `list_manifest`. Relative paths
    start from the folder of the file. Labels say which images and captions are relevant to each other.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: a CSV file in UTF-8 with the columns path, caption and label.
        image_descriptor: computes and caches the image features.
        text_descriptor: computes and caches the caption features.
        caption_key: name of the column of captions.
        labels_key: label columns, of names or of 0 and 1; None for those named label or labels.
        label_separator: separator of several labels in a field, as in `ImageFolder`.
        view: "image" or "text" for only that view; None for both.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, or an unknown view.
    """

    title = "images with captions"
    layout = LAYOUT

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        image_descriptor: Descriptor,
        text_descriptor: TextDescriptor,
        caption_key: str = "caption",
        labels_key: str | Sequence[str] | None = None,
        label_separator: str | None = None,
        view: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        if not path:
            raise InvalidInputError(f"path={path!r}; give the file of your images: data.path=FILE.csv, {LAYOUT}.")
        super().__init__(protocol, seed, split, path, view, cache)
        self.image_descriptor = image_descriptor
        self.text_descriptor = text_descriptor
        self.caption_key = caption_key
        self.labels_key = labels_key
        self.label_separator = label_separator

    def load(self) -> Items:
        """Read the table, and the cached features.

        Raises:
            InvalidInputError: a missing or malformed file, missing images, empty captions, or no labels.
        """
        if self.path.suffix.lower() != ".csv":
            raise InvalidInputError(f"path={str(self.path)!r} is not a .csv file; give {LAYOUT}.")
        heading, *rows = read_rows(self.path) or [[]]
        captions = read_captions(heading, rows, self.caption_key, self.path)
        labels_key = self.labels_key or find_label_column(heading, self.path)
        listing = list_manifest(self.path, labels_key, self.label_separator)
        features: dict[str, Tensor] = {}
        computed_from: dict[str, str] = {}
        images = None
        if self.view != "text":
            described = read_or_describe_files(listing.files, self.image_descriptor, self.cache)
            features["image"], images = described["features"], described["thumbnails"].numpy()
            computed_from["image"] = files_digest(listing.files)
        if self.view != "image":
            features["text"] = read_or_describe_texts(captions, self.text_descriptor, self.cache)
            computed_from["text"] = words_digest(captions)
        return Items(
            labels=listing.labels,
            class_names=listing.class_names,
            images=images,
            texts=tuple(captions),
            **self._select_view(features, computed_from),
        )


def read_rows(table: Path) -> list[list[str]]:
    """Read the rows of a CSV file in UTF-8 that are not empty, the header first."""
    with reading(table, LAYOUT, "save it as one"), table.open(newline="", encoding="utf-8-sig") as stream:
        return [row for row in csv.reader(stream, strict=True) if row]


def read_captions(heading: list[str], rows: list[list[str]], name: str, table: Path) -> list[str]:
    """Return the texts of the column of captions, with single spaces.

    Args:
        heading: names of the columns.
        rows: the other rows of the table.
        name: name of the column.
        table: the file, for the message.

    Raises:
        InvalidInputError: no such column, or an empty field; the message has the row.
    """
    names = [column.strip() for column in heading]
    if names.count(name) != 1:
        raise InvalidInputError(
            f"{table} has {names.count(name)} columns named {name!r}, of {', '.join(names) or 'none'}; name the column "
            "of captions: data.caption_key=NAME."
        )
    place = names.index(name)
    texts = [" ".join(row[place].split()) if len(row) > place else "" for row in rows]
    for line, text in enumerate(texts, 2):
        if not text:
            raise InvalidInputError(f"{table} has no caption in row {line}; fill it or remove the row.")
    return texts


def find_label_column(heading: list[str], table: Path) -> str:
    """Return the name of the column label or labels.

    Raises:
        InvalidInputError: there is none; the message says what labels are for.
    """
    names = [column.strip() for column in heading]
    for name in ("label", "labels"):
        if name in names:
            return name
    raise InvalidInputError(
        f"{table} has no column 'label', but {', '.join(names)}; labels say which images and captions are relevant to "
        "each other: add the column, or name label columns: data.labels_key=NAME."
    )
