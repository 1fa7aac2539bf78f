"""Lists of images in the layout of HashNet: train.txt, test.txt and database.txt, each line a path and its labels."""

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deephash.io.files import reading
from deephash.validation import InvalidInputError

LISTS = {"train": "train.txt", "query": "test.txt", "database": "database.txt"}
"""File of each part."""

FLAGS = frozenset("01")
NUMBER = re.compile(r"[-+.0-9eE]+")


@dataclass(frozen=True)
class ImageList:
    """Images and labels of one list.

    Args:
        file: the list.
        names: n paths, relative and without "." and "..".
        labels: bool (n, c).
        lines: line of each image in the file, from 1.
    """

    file: Path
    names: list[str]
    labels: np.ndarray
    lines: list[int]


@dataclass(frozen=True)
class ListedItems:
    """Images of all lists, each once: those of train.txt, of test.txt, and the others of database.txt.

    Args:
        names: n paths, relative to the root of the images.
        labels: bool (n, c).
        official: part of each image, (n,) of "train", "query", "database", or "both" for training images that are
            searched too.
    """

    names: list[str]
    labels: np.ndarray
    official: np.ndarray


def read_lists(folder: Path, classes: int | None = None) -> dict[str, ImageList]:
    """Read the three lists of a folder, by part.

    Args:
        folder: folder of train.txt, test.txt and database.txt.
        classes: number of classes c; None for the number of values in the first line of train.txt.

    Raises:
        InvalidInputError: a list is missing, or a line is malformed; the message has the file and the line.
    """
    missing = [file for file in LISTS.values() if not (folder / file).is_file()]
    if missing:
        raise InvalidInputError(
            f"{folder} has no {' and no '.join(missing)}; put the lists of a split there (train.txt, test.txt for the "
            "queries, database.txt), each line a path and a 0 or 1 for each class, such as 'images/a.jpg 0 1 0', or "
            "give their folder: data.lists=FOLDER."
        )
    lists = {}
    for part, name in LISTS.items():
        lists[part] = read_list(folder / name, classes)
        classes = lists[part].labels.shape[1]
    return lists


def read_list(file: Path, classes: int | None = None) -> ImageList:
    """Read a list in UTF-8: each line is a path, which may contain spaces, and a 0 or 1 for each class.

    Values are separated by spaces or tabs. Empty lines, a byte order mark and line ends of Windows are accepted.

    Args:
        file: the list.
        classes: number of classes c; None for the number of values in the first line.

    Raises:
        InvalidInputError: an unreadable or empty list, or a malformed line: no path, another number of values, values
            other than 0 and 1, no label, a path outside the root, or a path that another line has.
    """
    with reading(file, "a list of images in UTF-8", "save it as one"):
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    names: list[str] = []
    numbers: list[int] = []
    flags: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if classes is None:
            classes = max(1, _count_flags(line))
        path, *values = line.strip().rsplit(None, classes)
        joined = "".join(values)
        if len(values) != classes or not FLAGS.issuperset(joined) or len(joined) != classes or _count_flags(path):
            raise InvalidInputError(f"{file} {_explain_line(line, number, classes)}")
        if "1" not in joined:
            raise InvalidInputError(
                f"{file} gives {path} no label in line {number}: all values are 0; label the image or remove the line."
            )
        name = posixpath.normpath(path)
        if posixpath.isabs(name) or name.split("/")[0] == "..":
            raise InvalidInputError(
                f"{file} lists {path} in line {number}, which is outside the root; paths start from data.root, such as "
                "'images/a.jpg'."
            )
        if name in seen:
            raise InvalidInputError(
                f"{file} lists {path} in line {seen[name]} and again in line {number}; remove one of the lines."
            )
        seen[name] = number
        names.append(name)
        numbers.append(number)
        flags.append(joined)
    if not names:
        raise InvalidInputError(f"{file} lists no images; expected lines such as 'images/a.jpg 0 1 0'.")
    table = np.frombuffer("".join(flags).encode(), np.uint8).reshape(len(names), -1) == ord("1")
    return ImageList(file, names, table, numbers)


def merge_lists(lists: Mapping[str, ImageList]) -> ListedItems:
    """Merge the three lists.

    Training images may be searched too, as in most published splits. Queries may not be in another list, because they
    would find themselves, or would have been trained on.

    Args:
        lists: list of each part.

    Raises:
        InvalidInputError: a query is in another list, or two lists give an image different labels.
    """
    query = {name: place for place, name in enumerate(lists["query"].names)}
    for part in ("train", "database"):
        shared = [place for place, name in enumerate(lists[part].names) if name in query]
        if shared:
            first = lists[part].names[shared[0]]
            used = "they would find themselves" if part == "database" else "the hasher would have learnt their labels"
            raise InvalidInputError(
                f"{lists[part].file} lists {len(shared)} of the {len(query)} images of {lists['query'].file.name}, the "
                f"first {first} (lines {lists[part].lines[shared[0]]} and {lists['query'].lines[query[first]]}); "
                f"queries must not be in {lists[part].file.name}, since {used}: remove them from one of the lists."
            )
    train = {name: place for place, name in enumerate(lists["train"].names)}
    official = ["train"] * len(train)
    others = []
    for place, name in enumerate(lists["database"].names):
        at = train.get(name)
        if at is None:
            others.append(place)
            continue
        official[at] = "both"
        if (lists["train"].labels[at] != lists["database"].labels[place]).any():
            raise InvalidInputError(
                f"{lists['train'].file} (line {lists['train'].lines[at]}) and {lists['database'].file.name} (line "
                f"{lists['database'].lines[place]}) give {name} different labels; correct one of them."
            )
    database = lists["database"]
    names = [*lists["train"].names, *lists["query"].names, *(database.names[place] for place in others)]
    labels = np.concatenate([lists["train"].labels, lists["query"].labels, database.labels[others]])
    official += ["query"] * len(query) + ["database"] * len(others)
    return ListedItems(names, labels, np.array(official))


def check_images(root: Path, lists: Mapping[str, ImageList]) -> None:
    """Raise an error if listed images do not exist.

    Raises:
        InvalidInputError: the message has their number and the first of them with its line.
    """
    if not root.is_dir():
        raise InvalidInputError(f"data.root={root} is not a folder; give the folder that the listed paths start from.")
    total, missing, first = 0, 0, ""
    checked: set[str] = set()
    for listed in lists.values():
        for name, line in zip(listed.names, listed.lines, strict=True):
            if name in checked:
                continue
            checked.add(name)
            total += 1
            if not os.path.isfile(root / name):
                missing += 1
                first = first or f"{root / name} (line {line} of {listed.file})"
    if missing:
        raise InvalidInputError(
            f"{missing} of the {total} listed images do not exist, the first {first}; unpack the images so that the "
            f"listed paths start from data.root={root}, or give another root."
        )


def _count_flags(text: str) -> int:
    """Return the number of values 0 or 1 at the end of a line."""
    count = 0
    for word in reversed(text.split()):
        if word not in FLAGS:
            break
        count += 1
    return count


def _explain_line(line: str, number: int, classes: int) -> str:
    """Explain why a line is malformed."""
    words, flags = line.split(), _count_flags(line)
    shown = line.strip()[:60]
    if flags == len(words):
        return f"has no path in line {number} ({shown!r}); expected a path and {classes} values of 0 or 1."
    if flags < classes and len(words) - flags > 1 and NUMBER.fullmatch(words[-1 - flags]):
        return f"has the value {words[-1 - flags]!r} in line {number}; expected 0 or 1 for each of {classes} classes."
    return (
        f"has {flags} values of 0 or 1 in line {number} ({shown!r}); expected {classes}, one for each class: correct "
        "the line, or set data.classes."
    )
