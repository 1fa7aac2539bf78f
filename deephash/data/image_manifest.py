"""Manifests: files that list images and their labels, one or several per image."""

import csv
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from deephash.data.labels import NONE, build_label_table, parse_labels, split_labels
from deephash.data.stored_index import find_ids, find_index_columns
from deephash.io.files import reading
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)

ENDINGS = (".csv", ".txt")
LABEL_HEADINGS = ("label", "labels")
TRUTH_VALUES = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


@dataclass(frozen=True)
class Listing:
    """Image files and their labels.

    Args:
        files: n image files.
        labels: class indices int64 (n,), an indicator bool (n, c), or None without labels.
        class_names: the c names; empty without labels.
    """

    files: list[Path]
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()


def list_manifest(
    manifest: Path, labels_key: str | Sequence[str] | None = None, separator: str | None = None
) -> Listing:
    """Return the images that a manifest lists, in its order; relative paths start from its folder.

    A CSV file has a heading and a line for each image: "path,label"; "path" alone, without labels; or "path" and a
    column of 0 and 1 for each label. Other columns besides "label" are ignored. A text file without a heading has
    in each line a path and the 0 or 1 of every label, or the number of a class, with spaces between them.

    Args:
        manifest: a `.csv` or `.txt` file in UTF-8.
        labels_key: columns of the labels, of 0 and 1 or of names; None uses those called label or labels, or all but
            path where all hold 0 and 1.
        separator: what stands between several labels in a field, as `parse_labels` takes it.

    Raises:
        InvalidInputError: no such file, one of another form, an empty field, files that do not exist, or labels that
            may be read in several ways.
    """
    if manifest.suffix.lower() == ".txt":
        if labels_key is not None or separator is not None:
            raise InvalidInputError(
                f"{manifest} has no columns with names; leave data.labels_key and data.label_separator out, or give a "
                "CSV file."
            )
        names, labels = _read_text(manifest)
    else:
        names, labels = _read_csv(manifest, labels_key, separator)
    files = [manifest.parent / name for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InvalidInputError(
            f"{manifest} names {len(missing)} files that do not exist, the first {missing[0]}; relative paths "
            f"start from {manifest.parent}."
        )
    return Listing(files, *labels)


# Labels, and the names of the classes.
_Labels = tuple[Tensor | None, tuple[str, ...]]


def _read_csv(
    manifest: Path, labels_key: str | Sequence[str] | None, separator: str | None
) -> tuple[list[str], _Labels]:
    with reading(manifest, "a CSV file in UTF-8", "save it as one"), _opened(manifest) as stream:
        heading, *rows = [row for row in csv.reader(stream, strict=True) if row] or [[]]
    heading = [name.strip() for name in heading]
    if heading.count("path") != 1:
        raise InvalidInputError(f"{manifest} has the heading {','.join(heading)!r}; expected 'path,label'.")
    if not rows:
        raise InvalidInputError(f"{manifest} lists no images; expected a line 'path,label' for each.")
    for line, row in enumerate(rows, 2):
        if any(field.strip() for field in row[len(heading) :]):
            raise InvalidInputError(
                f"{manifest} has {len(row)} fields in row {line}, and {len(heading)} in its heading; put several "
                "labels into one field, as 'cat;dog', and set data.label_separator, or quote a field with a comma."
            )
        row += [""] * (len(heading) - len(row))
    places = _label_columns(manifest, heading, rows, labels_key)
    path = heading.index("path")
    may_be_empty = separator not in (None, NONE) or len(places) > 1
    for line, row in enumerate(rows, 2):
        if not row[path] or not (may_be_empty or all(row[place].strip() for place in places)):
            raise InvalidInputError(f"{manifest} has no path or no label in row {line}; fill it or drop the row.")
    fields = [[row[place].strip() for place in places] for row in rows]
    names = [row[path] for row in rows]
    _check_one_row_each(manifest, names, fields, 2)
    columns = [heading[place] for place in places]
    return names, _labels_of(columns, fields, separator, f"labels of {manifest}")


def _label_columns(
    manifest: Path, heading: list[str], rows: list[list[str]], labels_key: str | Sequence[str] | None
) -> list[int]:
    """Return the positions of the label columns."""
    if labels_key is not None:
        wanted = [labels_key] if isinstance(labels_key, str) else list(labels_key)
        for name in wanted:
            if heading.count(name) != 1:
                raise InvalidInputError(
                    f"data.labels_key names {name!r}, which {manifest} has {heading.count(name)} times; its columns "
                    f"are: {', '.join(heading)}."
                )
        return [heading.index(name) for name in wanted]
    if places := [place for place, name in enumerate(heading) if name in LABEL_HEADINGS]:
        return places
    others = [place for place, name in enumerate(heading) if name != "path"]
    # An index that pandas wrote, and ids, are no labels.
    index = find_index_columns((heading[place] for place in others), None)
    beside = {"", *index, find_ids([heading[place] for place in others])}
    others = [place for place in others if heading[place] not in beside]
    if not others:
        return []
    names = [heading[place] for place in others]
    binary = all(row[place].strip().lower() in TRUTH_VALUES for row in rows for place in others)
    if len(set(names)) > 1 and binary:
        log.info("%s: the columns %s are labels, of 0 and 1", manifest, ", ".join(names))
        return others
    raise InvalidInputError(
        f"{manifest} has no column 'label', and beside 'path' the columns {', '.join(names)}; name those that are "
        f"labels, such as data.labels_key={names[0]}, or drop them."
    )


def _labels_of(columns: list[str], fields: list[list[str]], separator: str | None, name: str) -> _Labels:
    """Convert the fields of one or several columns to labels."""
    if not columns:
        return None, ()
    if len(columns) == 1:
        return parse_labels(np.array([row[0] for row in fields]), len(fields), name, separator)
    if len(set(columns)) == len(columns) and all(field.lower() in TRUTH_VALUES for row in fields for field in row):
        return torch.tensor([[TRUTH_VALUES[field.lower()] for field in row] for row in fields]), tuple(columns)
    if separator not in (None, NONE):
        return build_label_table(
            [[part for field in row for part in split_labels(field, separator)] for row in fields], name
        )
    if separator is None:  # which asks about a field that may be several labels
        given = np.array([field for row in fields for field in row if field])
        parse_labels(given, len(given), name)
    return build_label_table([[field for field in row if field] for row in fields], name)


def _check_one_row_each(manifest: Path, names: list[str], fields: list[list[str]], first: int) -> None:
    """Raise an error if an image has several rows with different labels."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        before = seen.setdefault(os.path.abspath(manifest.parent / name), place)
        if fields[place] != fields[before]:
            raise InvalidInputError(
                f"{manifest} names {name} with different labels in rows {first + before} and {first + place}; give "
                "each image one row, with its labels in one field, as 'cat;dog', and data.label_separator=semicolon."
            )


def _read_text(manifest: Path) -> tuple[list[str], _Labels]:
    with reading(manifest, "a list of images in UTF-8", "save it as one"), _opened(manifest) as stream:
        lines = [line.strip() for line in stream.read().splitlines() if line.strip()]
    if not lines:
        raise InvalidInputError(f"{manifest} lists no images; expected a line 'path 0 1 0' for each.")
    columns = 0
    for value in reversed(lines[0].split()[1:]):
        if value not in ("0", "1"):
            break
        columns += 1
    names, values = [], []
    for number, line in enumerate(lines, 1):
        name, *found = line.rsplit(maxsplit=max(1, columns))
        fits = len(found) == max(1, columns) and all(map(str.isdecimal, found))
        if not fits or (columns > 1 and not set(found) <= {"0", "1"}):
            raise InvalidInputError(
                f"{manifest} has {line[:80]!r} in line {number}; expected a path and "
                f"{f'{columns} values of 0 or 1, as in line 1' if columns > 1 else 'the number of a class'}."
            )
        names.append(name)
        values.append([int(value) for value in found])
    _check_one_row_each(manifest, names, [[str(value) for value in row] for row in values], 1)
    return names, parse_labels(np.array(values), len(values), f"labels of {manifest}")


def _opened(manifest: Path) -> TextIO:
    return manifest.open(newline="", encoding="utf-8-sig")
