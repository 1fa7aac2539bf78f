"""Conversion of users' labels to class indices or indicator tables."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deephash.validation import InvalidInputError

NONE = "none"
SEPARATORS = {"space": " ", "comma": ",", "semicolon": ";", "bar": "|", "tab": "\t"}
"""Words for what stands between several labels, as commands take them without quotes; space is any white space."""

SURE = ("bar", "semicolon", "tab", "；")
"""What always separates labels."""
JOINING = ("-", ":", "_")
"""What separates numbers, and is part of a word."""

MAX_TABLE = 1 << 32
"""Most values of a table of items and labels, of a byte each."""


def parse_labels(
    labels: np.ndarray, rows: int, name: str = "labels", separator: str | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    """Convert labels to class indices, or to an indicator table for several labels per item.

    Args:
        labels: whole numbers >= 0 or strings (n,) or (n, 1), one class each; or 0 and 1 (n, c), any number of labels
            each, of any dtype.
        rows: the n that is required.
        name: name of the values, for messages.
        separator: what stands between the labels of a string: a word of `SEPARATORS`, or a character. "none": each
            string is one label. None: the same, and a string that may be several is asked about.

    Returns:
        Class indices int64 (n,), or an indicator bool (n, c); and the names of the c classes.

    Raises:
        InvalidInputError: another number of rows, dtype or shape, values that are neither, strings that may be one
            label or several, or a separator that is none.
    """
    if labels.ndim == 0 or len(labels) != rows:
        raise InvalidInputError(
            f"{name} have {len(labels) if labels.ndim else 'no'} rows; expected {rows}, one for each row of features."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _indicator(labels, name)
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
            f"{name} hold {labels.min()} in row {labels.argmin()}; classes are whole numbers from 0 on: drop rows "
            "without a class."
        )
    if separator not in (None, NONE):
        if labels.dtype.kind != "U":
            raise InvalidInputError(
                f"{name} have dtype {labels.dtype}, which data.label_separator={separator} does not split; leave it "
                "out."
            )
        return build_label_table([split_labels(each, separator) for each in _composed(labels).tolist()], name)
    if labels.dtype.kind == "U":
        labels = _composed(labels)
    classes, indices = np.unique(labels, return_inverse=True)
    if separator is None and labels.dtype.kind == "U":
        _check_single(classes.tolist(), labels, name)
    return torch.from_numpy(indices.astype(np.int64)), tuple(str(each) for each in classes)


def build_label_table(lists: Sequence[Sequence[str]], name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Convert lists of labels to an indicator table.

    Args:
        lists: the labels of each of n items.
        name: name of the values, for messages.

    Returns:
        Indicator bool (n, c), and the c labels, in the order of their numbers, or of the alphabet where they are words.

    Raises:
        InvalidInputError: no labels at all, or too many different ones for a table.
    """
    known = {label for each in lists for label in each}
    if not known:
        raise InvalidInputError(f"{name} are all empty; give at least one item a label.")
    if len(known) * len(lists) > MAX_TABLE:
        raise InvalidInputError(
            f"{name} are {len(known)} different ones of {len(lists)} items, more than a table holds; check "
            "data.label_separator."
        )
    numbers = all(label.isdecimal() for label in known)
    names = sorted(known, key=lambda label: (int(label) if numbers else 0, label))
    column = {label: place for place, label in enumerate(names)}
    table = torch.zeros(len(lists), len(names), dtype=torch.bool)
    rows = [row for row, each in enumerate(lists) for _ in each]
    table[rows, [column[label] for each in lists for label in each]] = True
    return table, tuple(names)


def split_labels(text: str, separator: str) -> list[str]:
    """Split a string into labels, strip white space, and drop empty labels.

    Args:
        text: the string.
        separator: a word of `SEPARATORS`, or a character.

    Raises:
        InvalidInputError: neither.
    """
    between = SEPARATORS.get(separator, separator)
    if len(between) != 1 or between.isalnum():
        raise InvalidInputError(
            f"data.label_separator={separator!r}; expected one of: {', '.join((*SEPARATORS, NONE))}, or a character "
            "that is no letter or digit."
        )
    parts = text.split() if between == " " else [part.strip() for part in text.split(between)]
    return [part for part in parts if part]


def _composed(labels: np.ndarray) -> np.ndarray:
    """Return strings in Unicode's composed form (NFC), so that both encodings of an accented letter are one label."""
    known, places = np.unique(labels, return_inverse=True)
    return np.array([unicodedata.normalize("NFC", each) for each in known.tolist()], np.str_)[places]


def _check_single(known: Sequence[str], labels: np.ndarray, name: str) -> None:
    """Raise an error if a string may be one label or several.

    This holds for bars, semicolons and tabs, and for commas, spaces and similar characters between numbers, or between
    words that are labels themselves or occur at several places. A name of several words, such as "polar bear", is one
    label. Hyphens, colons and underscores join words, and count only between numbers.
    """
    for label in known:
        if label[:1] + label[-1:] in ("[]", "()", "{}"):
            raise InvalidInputError(
                f"{name} hold {label!r} in row {int(np.flatnonzero(labels == label)[0])}, a list as text; write its "
                f"labels with a separator, as 'a;b', and set data.label_separator=semicolon, or ={NONE} for one label."
            )
    for word in (*SURE, "comma", "space", "/", "\\", "+", "&", "、", "，", *JOINING):
        split = {label: split_labels(label, word) for label in known if SEPARATORS.get(word, word) in label}
        split = {label: parts for label, parts in split.items() if len(parts) > 1}
        first, later = {parts[0] for parts in split.values()}, {part for parts in split.values() for part in parts[1:]}
        whole = set(known) | (first & later)
        for label, parts in split.items():
            joined = word not in JOINING and not whole.isdisjoint(parts)
            if word in SURE or all(map(str.isdecimal, parts)) or joined:
                row = int(np.flatnonzero(labels == label)[0])
                raise InvalidInputError(
                    f"{name} hold {label!r} in row {row}, which may be one label or {len(parts)}; set "
                    f"data.label_separator={word} for several, or data.label_separator={NONE} for one."
                )


def _indicator(labels: np.ndarray, name: str) -> tuple[Tensor, tuple[str, ...]]:
    if labels.dtype.kind not in "iubf":
        raise InvalidInputError(
            f"{name} have dtype {labels.dtype} and shape {labels.shape}; expected (n, c) of 0 and 1."
        )
    wrong = np.argwhere((labels != 0) & (labels != 1))
    if len(wrong):
        row, column = wrong[0]
        raise InvalidInputError(
            f"{name} hold {labels[row, column]} in row {row}, column {column}; several columns are several labels an "
            "item, and hold 0 and 1 only."
        )
    return torch.from_numpy(labels != 0), tuple(str(column) for column in range(labels.shape[1]))
