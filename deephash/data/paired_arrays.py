"""Your own features of the same items in several views, from files; items may lack a view."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.array_file import read_array, read_matrix
from deephash.data.arrays import convert_features, read_images
from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.data.labels import parse_labels
from deephash.data.protocols.base import Protocol, Split
from deephash.data.views import Views
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError


def find_present_rows(array: np.ndarray, name: str) -> np.ndarray:
    """Return which items have a view: their row is not only NaN.

    Args:
        array: numbers (n, d).
        name: name of the values, for messages.

    Returns:
        bool (n,).

    Raises:
        InvalidInputError: a partly NaN row, or only NaN.
    """
    if array.dtype.kind != "f" or array.ndim != 2:
        return np.ones(len(array), np.bool_)
    nan = np.isnan(array)
    absent = nan.all(1)
    partial = np.flatnonzero(nan.any(1) & ~absent)
    if len(partial):
        raise InvalidInputError(
            f"{name} contain NaN in {nan[partial[0]].sum()} of {array.shape[1]} columns of row {partial[0]}; a row of "
            "only NaN marks an item that lacks this view: fill the other values, or make the whole row NaN."
        )
    if len(absent) and absent.all():
        raise InvalidInputError(f"{name} contain only NaN; at least one item must have this view.")
    present: np.ndarray = ~absent
    return present


def read_texts(path: Path, rows: int) -> tuple[str, ...]:
    """Read strings (rows,) to show beside results.

    Raises:
        InvalidInputError: another dtype or shape.
    """
    texts = read_array(path)
    if texts.dtype.kind != "U" or texts.shape != (rows,):
        raise InvalidInputError(
            f"texts of {path} have dtype {texts.dtype} and shape {texts.shape}; expected strings ({rows},)."
        )
    return tuple(map(str, texts))


@final
class PairedArrays(HashingDataModule):
    """Features of two or more views from `.npy`, `.npz`, `.parquet`, `.fvecs`, `.bvecs` or `.ivecs` files.

    Row i of every file is item i. An item that lacks a view has a row of only NaN in its file. Methods are fitted on
    the items that they can use, and an item is encoded and ranked in the views that it has.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        features: a file for each view, numbers (n, d of the view).
        views: names of the views, in the order of the files.
        features_keys: for each view, array of an `.npz` file or columns of a Parquet file; None for a file of one
            array. A single None applies to all views.
        labels: file of the labels; None if there are no labels.
        labels_key: array or columns of the labels: integers or strings, one per item, or several columns
            of 0 and 1.
        label_separator: separator of several labels in a string: space, comma, semicolon, bar, tab or another
            character; "none" if each string is one label. None raises an error if a string may be one label or several.
        texts: a file of strings (n,) to show beside results.
        images: a file of uint8 images (n, h, w) or (n, h, w, 3) to show beside results.

    Raises:
        InvalidInputError: fewer than two files, or a number of names or keys other than that of files.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        features: Sequence[FilePath],
        views: Sequence[str] = ("image", "text"),
        features_keys: Sequence[str | Sequence[str] | None] | None = None,
        labels: FilePath | None = None,
        labels_key: str | Sequence[str] | None = None,
        label_separator: str | None = None,
        texts: FilePath | None = None,
        images: FilePath | None = None,
    ) -> None:
        super().__init__(protocol, seed, split)
        if features is None or isinstance(features, str) or len(features) < 2:
            raise InvalidInputError(
                f"features={features!r}; give the file of each view, such as data.features=[image.npy,text.npy]."
            )
        keys = [None] * len(features) if features_keys is None else list(features_keys)
        for name, values in (("views", list(views)), ("features_keys", keys)):
            if len(values) != len(features):
                raise InvalidInputError(f"{name}={values} for {len(features)} files of features; give one for each.")
        if len(set(views)) < len(views):
            raise InvalidInputError(f"views={list(views)}; give each view a different name.")
        self.files = {view: Path(file) for view, file in zip(views, features, strict=True)}
        self.keys = dict(zip(views, keys, strict=True))
        self.labels_path = None if labels is None else Path(labels)
        self.labels_key = labels_key
        self.label_separator = label_separator
        self.texts_path = None if texts is None else Path(texts)
        self.images_path = None if images is None else Path(images)

    def load(self) -> Items:
        """Read the files.

        Raises:
            InvalidInputError: a missing, damaged or unusable file, or files of different numbers of rows; the message
                names the file.
        """
        features: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for view, path in self.files.items():
            array, name = read_matrix(path, self.keys[view]), f"{view} features of {path}"
            mask = find_present_rows(array, name)
            features[view] = convert_features(np.where(mask[:, None], array, 0) if not mask.all() else array, name)
            present[view] = torch.from_numpy(mask)
        views = Views(features, present)
        labels: Tensor | None = None
        class_names: tuple[str, ...] = ()
        if self.labels_path is not None:
            name = f"labels of {self.labels_path}"
            stored = read_array(self.labels_path, self.labels_key)
            labels, class_names = parse_labels(stored, len(views), name, self.label_separator)
        texts = None if self.texts_path is None else read_texts(self.texts_path, len(views))
        images = None if self.images_path is None else read_images(self.images_path, len(views))
        return Items(views, labels, class_names, images=images, texts=texts)
