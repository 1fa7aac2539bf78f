"""Your own features and optional labels, from files."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.array_file import read_array, read_matrix
from deephash.data.base import HashingDataModule
from deephash.data.items import Items
from deephash.data.labels import parse_labels
from deephash.data.mapped_rows import MappedRows, RowFile, can_map
from deephash.data.protocols.base import Protocol, Split
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, as_features, check_finite

MAPPED_VALUES = 1 << 24
"""Minimum number of values of a matrix that is memory-mapped: 64 MB as float32."""


def convert_features(array: np.ndarray, name: str) -> Tensor:
    """Convert features to a float32 tensor.

    Args:
        array: numbers (n, d), with n and d at least 1.
        name: name of the values, for messages.

    Returns:
        float32 (n, d), a copy.

    Raises:
        InvalidInputError: not numbers, not a matrix, empty, or NaN, infinite or beyond float32.
    """
    check_matrix(array, name)
    with np.errstate(over="ignore"):  # Values beyond float32 become infinite and raise an error below.
        features = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    return as_features(features, name=name)


def map_features(path: Path, array: np.ndarray, name: str) -> MappedRows:
    """Return memory-mapped features after the checks of `convert_features`, block by block.

    Args:
        path: a file that can be mapped.
        array: its mapped contents.
        name: name of the values, for messages.

    Raises:
        InvalidInputError: as `convert_features`.
    """
    check_matrix(array, name)
    features = MappedRows(RowFile.of(path), array.shape)
    check_finite(features, name)
    return features


def check_matrix(array: np.ndarray, name: str) -> None:
    """Raise an error for a value that is not a matrix of numbers with at least one row and one column.

    Raises:
        InvalidInputError: the message has the dtype or shape.
    """
    if array.dtype.kind not in "iufb":
        raise InvalidInputError(f"{name} have dtype {array.dtype}; expected numbers.")
    if array.ndim != 2 or array.shape[1] == 0:
        raise InvalidInputError(f"{name} have shape {array.shape}; expected two axes, (n, d) with d at least 1.")
    if len(array) == 0:
        raise InvalidInputError(f"{name} have no rows; expected at least one item.")


def read_images(path: Path, rows: int) -> np.ndarray:
    """Read images to show beside results, uint8 (rows, h, w) or (rows, h, w, 3).

    Raises:
        InvalidInputError: another dtype or shape.
    """
    images = read_array(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != rows:
        raise InvalidInputError(
            f"images of {path} have dtype {images.dtype} and shape {images.shape}; expected uint8 "
            f"({rows}, height, width) or ({rows}, height, width, 3)."
        )
    return images


@final
class Arrays(HashingDataModule):
    """Features and labels from `.npy`, `.npz`, `.parquet`, `.fvecs`, `.bvecs` or `.ivecs` files.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        features: file of the features, numbers (n, d).
        features_key: array of an `.npz` file, or columns of a Parquet file: one column of lists or several of numbers.
            None reads all but the labels, the ids (`id`) and pandas indexes.
        labels: file of the labels; None reads `labels_key`, if it is given, from the file of the features.
        labels_key: array or columns of the labels: integers or strings, one per item, or several columns of 0 and 1.
        label_separator: separator of several labels in a string: space, comma, semicolon, bar, tab or another
            character; "none" if each string is one label. None raises an error if a string may be one label or several.
        images: file of uint8 images (n, h, w) or (n, h, w, 3) to show beside results.

    Raises:
        InvalidInputError: no features given.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        features: FilePath,
        features_key: str | Sequence[str] | None = None,
        labels: FilePath | None = None,
        labels_key: str | Sequence[str] | None = None,
        label_separator: str | None = None,
        images: FilePath | None = None,
    ) -> None:
        super().__init__(protocol, seed, split)
        if not features:
            raise InvalidInputError(f"features={features!r}; give the file of your features: data.features=x.npy.")
        self.features_path = Path(features)
        self.features_key = features_key
        self.labels_path = self.features_path if labels is None else Path(labels)
        self.labels_key = labels_key
        self.label_separator = label_separator
        self.has_labels = labels is not None or labels_key is not None
        self.images_path = None if images is None else Path(images)

    def load(self) -> Items:
        """Read the files.

        Raises:
            InvalidInputError: a missing, damaged or unusable file; the message names it.
        """
        features: Tensor | MappedRows
        name = f"features of {self.features_path}"
        label_columns = self.labels_key if self.has_labels and self.labels_path == self.features_path else None
        array = read_matrix(self.features_path, self.features_key, label_columns)
        if can_map(self.features_path) and array.size >= MAPPED_VALUES:
            features = map_features(self.features_path.expanduser(), array, name)
        else:
            features = convert_features(array, name)
        del array  # releases the pages of a mapped file
        labels: Tensor | None = None
        class_names: tuple[str, ...] = ()
        images: np.ndarray | None = None
        if self.has_labels:
            name = f"labels of {self.labels_path}"
            stored = read_array(self.labels_path, self.labels_key)
            labels, class_names = parse_labels(stored, len(features), name, self.label_separator)
        if self.images_path is not None:
            images = read_images(self.images_path, len(features))
        return Items(features, labels, class_names, images=images)
