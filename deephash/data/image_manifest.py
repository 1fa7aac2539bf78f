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
    """Return the images that a manifest lists, in its order.

    Relative paths start from the folder of the manifest. A CSV file has a header and one line per image. The header is
    "path,label", only "path" for images without labels, or "path" and a column of 0 and 1 per label. If there is a
    column "label", other columns are ignored. A text file has no header; each line is a path followed by the 0 or 1 of
    each label, or by a class number, separated by spaces.

    Args:
        manifest: a `.csv` or `.txt` file in UTF-8.
        labels_key: label columns, of 0 and 1 or of names; None uses the columns named label or labels, or all columns
            except path if they contain only 0 and 1.
        separator: separator of several labels in a field, as in `parse_labels`.

    Raises:
        InvalidInputError: a missing or malformed manifest, an empty field, missing image files, or ambiguous labels.
    """
    if manifest.suffix.lower() == ".txt":
        if labels_key is not None or separator is not None:
            raise InvalidInputError(
                f"{manifest} has no column names; omit data.labels_key and data.label_separator, or give a CSV file."
            )
        names, labels = _read_text(manifest)
    else:
        names, labels = _read_csv(manifest, labels_key, separator)
    files = [manifest.parent / name for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InvalidInputError(
            f"{manifest} lists {len(missing)} files that do not exist, the first {missing[0]}; relative paths "
            f"start from {manifest.parent}."
        )
    return Listing(files, *labels)


# Labels and class names.
_Labels = tuple[Tensor | None, tuple[str, ...]]


def _read_csv(
    manifest: Path, labels_key: str | Sequence[str] | None, separator: str | None
) -> tuple[list[str], _Labels]:
    with reading(manifest, "a CSV file in UTF-8", "save it as one"), _open_text(manifest) as stream:
        heading, *rows = [row for row in csv.reader(stream, strict=True) if row] or [[]]
    heading = [name.strip() for name in heading]
    if heading.count("path") != 1:
        raise InvalidInputError(f"{manifest} has the header {','.join(heading)!r}; expected 'path,label'.")
    if not rows:
        raise InvalidInputError(f"{manifest} lists no images; expected a line 'path,label' for each.")
    for line, row in enumerate(rows, 2):
        if any(field.strip() for field in row[len(heading) :]):
            raise InvalidInputError(
                f"{manifest} has {len(row)} fields in row {line} but {len(heading)} in its header; put several "
                "labels into one field, such as 'cat;dog', and set data.label_separator, or quote a field with a comma."
            )
        row += [""] * (len(heading) - len(row))
    places = _find_label_columns(manifest, heading, rows, labels_key)
    path = heading.index("path")
    may_be_empty = separator not in (None, NONE) or len(places) > 1
    for line, row in enumerate(rows, 2):
        if not row[path] or not (may_be_empty or all(row[place].strip() for place in places)):
            raise InvalidInputError(f"{manifest} has no path or no label in row {line}; fill it or remove the row.")
    fields = [[row[place].strip() for place in places] for row in rows]
    names = [row[path] for row in rows]
    _check_one_row_each(manifest, names, fields, 2)
    columns = [heading[place] for place in places]
    return names, _convert_fields(columns, fields, separator, f"labels of {manifest}")


def _find_label_columns(
    manifest: Path, heading: list[str], rows: list[list[str]], labels_key: str | Sequence[str] | None
) -> list[int]:
    """Return the positions of the label columns."""
    if labels_key is not None:
        selected = [labels_key] if isinstance(labels_key, str) else list(labels_key)
        for name in selected:
            if heading.count(name) != 1:
                raise InvalidInputError(
                    f"data.labels_key={name!r} occurs {heading.count(name)} times in the header of {manifest}; its "
                    f"columns are: {', '.join(heading)}."
                )
        return [heading.index(name) for name in selected]
    if places := [place for place, name in enumerate(heading) if name in LABEL_HEADINGS]:
        return places
    candidates = [name for name in heading if name != "path"]
    # A pandas index and ids are not labels.
    excluded = {"path", "", *find_index_columns(candidates, None), find_ids(candidates)}
    places = [place for place, name in enumerate(heading) if name not in excluded]
    if not places:
        return []
    names = [heading[place] for place in places]
    binary = all(row[place].strip().lower() in TRUTH_VALUES for row in rows for place in places)
    if len(set(names)) > 1 and binary:
        log.info("%s: using the columns %s, of 0 and 1, as labels", manifest, ", ".join(names))
        return places
    raise InvalidInputError(
        f"{manifest} has no column 'label' but the columns {', '.join(names)} besides 'path'; name the label "
        f"columns, such as data.labels_key={names[0]}, or remove them."
    )


def _convert_fields(columns: list[str], fields: list[list[str]], separator: str | None, name: str) -> _Labels:
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
    if separator is None:  # raises an error for a field that may contain several labels
        values = np.array([field for row in fields for field in row if field])
        parse_labels(values, len(values), name)
    return build_label_table([[field for field in row if field] for row in fields], name)


def _check_one_row_each(manifest: Path, names: list[str], fields: list[list[str]], first: int) -> None:
    """Raise an error if an image has several rows with different labels."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        before = seen.setdefault(os.path.abspath(manifest.parent / name), place)
        if fields[place] != fields[before]:
            raise InvalidInputError(
                f"{manifest} lists {name} with different labels in rows {first + before} and {first + place}; give "
                "each image one row, with its labels in one field, such as 'cat;dog', and set "
                "data.label_separator=semicolon."
            )


def _read_text(manifest: Path) -> tuple[list[str], _Labels]:
    with reading(manifest, "a list of images in UTF-8", "save it as one"), _open_text(manifest) as stream:
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
        name, *row = line.rsplit(maxsplit=max(1, columns))
        valid = len(row) == max(1, columns) and all(map(str.isdecimal, row))
        if not valid or (columns > 1 and not set(row) <= {"0", "1"}):
            raise InvalidInputError(
                f"{manifest} has {line[:80]!r} in line {number}; expected a path and "
                f"{f'{columns} values of 0 or 1, as in line 1' if columns > 1 else 'a class number'}."
            )
        names.append(name)
        values.append([int(value) for value in row])
    _check_one_row_each(manifest, names, [[str(value) for value in row] for row in values], 1)
    return names, parse_labels(np.array(values), len(values), f"labels of {manifest}")


def _open_text(manifest: Path) -> TextIO:
    return manifest.open(newline="", encoding="utf-8-sig")
