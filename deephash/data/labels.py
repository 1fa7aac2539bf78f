"""Conversion of users' labels to class indices or indicator tables."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deephash.validation import InvalidInputError

NONE = "none"
SEPARATORS = {"space": " ", "comma": ",", "semicolon": ";", "bar": "|", "tab": "\t"}
"""Words for label separators, which need no quotes on the command line; space is any white space."""

SURE = ("bar", "semicolon", "tab", "；")
"""Characters that always separate labels."""

JOINING = ("-", ":", "_")
"""Characters that separate numbers but join words."""

MAX_TABLE = 1 << 32
"""Maximum number of entries of a label table; each takes one byte."""


def parse_labels(
    labels: np.ndarray, rows: int, name: str = "labels", separator: str | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    """Convert labels to class indices, or to an indicator table for several labels per item.

    Args:
        labels: for one class per item, whole numbers >= 0 or strings, (n,) or (n, 1). For several labels per item, a
            table (n, c) of 0 and 1, bool, integer or float, or strings (n,) with a separator.
        rows: required number of rows n.
        name: name of the values, for messages.
        separator: separator of the labels in a string: a key of `SEPARATORS` or a character. "none": each string is
            one label. None: the same, but an ambiguous string raises an error.

    Returns:
        Class indices int64 (n,) or an indicator bool (n, c), and the names of the c classes.

    Raises:
        InvalidInputError: a wrong number of rows, dtype or shape, invalid values, strings that may be one label or
            several, or an invalid separator.
    """
    if labels.ndim == 0 or len(labels) != rows:
        raise InvalidInputError(
            f"{name} have {len(labels) if labels.ndim else 'no'} rows; expected {rows}, one for each row of features."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _convert_indicator(labels, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InvalidInputError(f"{name} have shape {labels.shape}; expected ({rows},), or ({rows}, c) of 0 and 1.")
    if labels.dtype.kind not in "iubU":
        raise InvalidInputError(
            f"{name} have dtype {labels.dtype}; expected whole numbers or strings: use .astype(int) or .astype(str)."
        )
    if labels.dtype.kind == "i" and rows and labels.min() < 0:
        raise InvalidInputError(
            f"{name} contain {labels.min()} in row {labels.argmin()}; classes are whole numbers from 0: remove rows "
            "without a class."
        )
    if separator not in (None, NONE):
        if labels.dtype.kind != "U":
            raise InvalidInputError(
                f"{name} have dtype {labels.dtype}, which data.label_separator={separator} cannot split; omit it."
            )
        return build_label_table([split_labels(text, separator) for text in _normalise_unicode(labels).tolist()], name)
    if labels.dtype.kind == "U":
        labels = _normalise_unicode(labels)
    classes, indices = np.unique(labels, return_inverse=True)
    if separator is None and labels.dtype.kind == "U":
        _check_single(classes.tolist(), labels, name)
    return torch.from_numpy(indices.astype(np.int64)), tuple(map(str, classes))


def build_label_table(lists: Sequence[Sequence[str]], name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Convert lists of labels to an indicator table.

    Args:
        lists: the labels of each of n items.
        name: name of the values, for messages.

    Returns:
        Indicator bool (n, c), and the c labels, sorted as numbers if all are numbers, otherwise alphabetically.

    Raises:
        InvalidInputError: no labels, or too many different labels for a table.
    """
    known = {label for labels in lists for label in labels}
    if not known:
        raise InvalidInputError(f"{name} are all empty; give at least one item a label.")
    if len(known) * len(lists) > MAX_TABLE:
        raise InvalidInputError(
            f"{name} have {len(known)} different values for {len(lists)} items, too many for a table; check "
            "data.label_separator."
        )
    numbers = all(label.isdecimal() for label in known)
    names = sorted(known, key=lambda label: (int(label) if numbers else 0, label))
    column = {label: place for place, label in enumerate(names)}
    table = torch.zeros(len(lists), len(names), dtype=torch.bool)
    rows = [row for row, labels in enumerate(lists) for _ in labels]
    table[rows, [column[label] for labels in lists for label in labels]] = True
    return table, tuple(names)


def split_labels(text: str, separator: str) -> list[str]:
    """Split a string into labels, strip white space, and drop empty labels.

    Args:
        text: the string.
        separator: a key of `SEPARATORS`, or a character.

    Raises:
        InvalidInputError: an invalid separator.
    """
    character = SEPARATORS.get(separator, separator)
    if len(character) != 1 or character.isalnum():
        raise InvalidInputError(
            f"data.label_separator={separator!r}; expected one of: {', '.join((*SEPARATORS, NONE))}, or a character "
            "that is not a letter or digit."
        )
    parts = text.split() if character == " " else [part.strip() for part in text.split(character)]
    return [part for part in parts if part]


def _normalise_unicode(labels: np.ndarray) -> np.ndarray:
    """Return strings in Unicode's composed form (NFC), so that both encodings of an accented letter are equal."""
    known, places = np.unique(labels, return_inverse=True)
    return np.array([unicodedata.normalize("NFC", label) for label in known.tolist()], np.str_)[places]


def _check_single(known: Sequence[str], labels: np.ndarray, name: str) -> None:
    """Raise an error if a string may be one label or several.

    Bars, semicolons and tabs always count as separators. Commas, spaces and similar characters count between numbers.
    Between words they count only if one of the words is itself a label, or is first in one such string and later in
    another; so a name of several words, such as "polar bear", is one label. Hyphens, colons and underscores
    count only between numbers.
    """
    for label in known:
        if label[:1] + label[-1:] in ("[]", "()", "{}"):
            raise InvalidInputError(
                f"{name} contain {label!r} in row {int(np.flatnonzero(labels == label)[0])}, a list as text; write "
                f"several labels as 'a;b' and set data.label_separator=semicolon, or set it to {NONE} for one label."
            )
    for word in (*SURE, "comma", "space", "/", "\\", "+", "&", "、", "，", *JOINING):
        split = {label: split_labels(label, word) for label in known if SEPARATORS.get(word, word) in label}
        split = {label: parts for label, parts in split.items() if len(parts) > 1}
        first, later = {parts[0] for parts in split.values()}, {part for parts in split.values() for part in parts[1:]}
        likely_labels = set(known) | (first & later)
        for label, parts in split.items():
            has_likely_label = word not in JOINING and not likely_labels.isdisjoint(parts)
            if word in SURE or all(map(str.isdecimal, parts)) or has_likely_label:
                row = int(np.flatnonzero(labels == label)[0])
                raise InvalidInputError(
                    f"{name} contain {label!r} in row {row}, which may be one label or {len(parts)}; set "
                    f"data.label_separator={word} for several, or data.label_separator={NONE} for one."
                )


def _convert_indicator(labels: np.ndarray, name: str) -> tuple[Tensor, tuple[str, ...]]:
    if labels.dtype.kind not in "iubf":
        raise InvalidInputError(
            f"{name} have dtype {labels.dtype} and shape {labels.shape}; expected (n, c) of 0 and 1."
        )
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InvalidInputError(
            f"{name} contain {labels[row, column]} in row {row}, column {column}; labels in several columns must "
            "be 0 or 1, one column for each class."
        )
    return torch.from_numpy(labels != 0), tuple(str(column) for column in range(labels.shape[1]))
