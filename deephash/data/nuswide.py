"""NUS-WIDE: 269,648 images of Flickr, with their tags and 81 concepts."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from deephash.data.cache import read_or_compute
from deephash.data.image_text_base import VIEWS, ImageTextData, read_lines
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.io.files import format_missing_path
from deephash.io.folder_walk import walk_files
from deephash.io.path_settings import FilePath
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count

WORDS, TAGS, CONCEPTS = 500, 1000, 81

LABELS = "Groundtruth/AllLabels"
TAG_FILE = "NUS_WID_Tags/AllTags1k.txt"
TAG_NAMES = "NUS_WID_Tags/TagList1k.txt"
WORD_FILE = "Low_Level_Features/BoW_int.dat"
# One edition of the features has a file of words for each of the publisher's two parts.
WORD_PARTS = {"Train": "Low_Level_Features/BoW_Train_int.dat", "Test": "Low_Level_Features/BoW_Test_int.dat"}
IMAGE_LIST = "ImageList/Imagelist.txt"
PART_LISTS = {"Train": "ImageList/TrainImagelist.txt", "Test": "ImageList/TestImagelist.txt"}

LAYOUT = (
    f"{LABELS}/Labels_NAME.txt of {CONCEPTS} concepts (from Groundtruth.zip), {TAG_FILE} (from NUS_WID_Tags.zip), "
    f"{WORD_FILE}, or {WORD_PARTS['Train']} and {WORD_PARTS['Test']} (from NUS_WID_Low_Level_Features.rar), and "
    f"{IMAGE_LIST}, {PART_LISTS['Train']} and {PART_LISTS['Test']} (from ImageList.zip)"
)


def read_numbers(path: Path, columns: int) -> np.ndarray:
    """Read a table of whole numbers separated by white space.

    Args:
        path: the file.
        columns: numbers per row.

    Returns:
        float32 (n, columns).

    Raises:
        InvalidInputError: a missing file, contents that are not numbers, or an incomplete row.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # NumPy's warning for a value that is not a number
            numbers: np.ndarray = np.fromfile(path, np.float32, sep=" ")
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path} does not exist; the layout is {LAYOUT}.") from error
    except (OSError, DeprecationWarning, ValueError) as error:
        raise InvalidInputError(f"{path} is not a table of numbers ({error}); unpack it again.") from error
    if len(numbers) == 0 or len(numbers) % columns:
        raise InvalidInputError(
            f"{path} contains {len(numbers)} numbers, not a multiple of {columns}; it is damaged or another file: "
            "unpack it again."
        )
    return numbers.reshape(-1, columns)


def find_most_frequent(labels: np.ndarray, concepts: int) -> np.ndarray:
    """Return the columns of the most frequent concepts, ascending; ties go to the first."""
    order = np.argsort(-labels.sum(0, dtype=np.int64), kind="stable")[:concepts]
    return np.sort(order)


@final
class NUSWIDE(ImageTextData):
    """Images as 500 counts of SIFT words, and texts as indicators of 1,000 tags, with several labels per item.

    The tags are the 1,000 most frequent. Only items with at least one of the chosen concepts are kept: 186,577 of the
    269,648 published items for the 10 most frequent concepts, and 195,834 for the 21 most frequent. The publisher's
    parts are "train" and "query" (its "test").

    Only the addresses of the images are published, so there are no images to show or to describe. The publisher's
    server has closed; web archives have its files, without checksums.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: a folder with the publisher's Groundtruth, NUS_WID_Tags, Low_Level_Features and ImageList. If the word
            counts are in one file, ImageList may be missing, and there is then no official split.
        concepts: number of most frequent concepts used as labels: 10 and 21 are usual, and 81 is all.
        view: "image" or "text" for only that view; None for both.
        cache: folder of the parsed tables, which load in seconds; parsing the text files takes minutes.

    Raises:
        InvalidInputError: no path, an unknown view, or a number of concepts outside 1 to 81.

    References:
        Chua, Tang, Hong, Li, Luo & Zheng, "NUS-WIDE: a real-world web image database from National University of
        Singapore", CIVR 2009.
    """

    title = "NUS-WIDE"
    layout = LAYOUT

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        concepts: int = 10,
        view: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split, path, view, cache)
        check_count(concepts, "concepts")
        if concepts > CONCEPTS:
            raise InvalidInputError(f"concepts={concepts}; NUS-WIDE has {CONCEPTS}: 10 and 21 are usual.")
        self.concepts = concepts

    def prepare_data(self) -> None:
        """Read the text files once."""
        if not self.is_read:
            self._load_tables()

    def load(self) -> Items:
        """Read the views and labels of the items with a label.

        Raises:
            InvalidInputError: a missing or damaged file, or a file of another number of items.
        """
        tables = self._load_tables()
        names = self._list_concepts()
        columns = find_most_frequent(tables["labels"].numpy(), self.concepts)
        labels = tables["labels"][:, torch.from_numpy(columns)].bool()
        kept = labels.any(1).nonzero()[:, 0]
        if len(kept) == 0:
            raise InvalidInputError(
                f"No item of {self.path} has one of the {self.concepts} concepts; check its labels."
            )
        features = {view: tables[view][kept].float() for view in VIEWS if self.view in (None, view)}
        official = None
        if "train" in tables:
            official = np.where(tables["train"][kept].numpy(), "train", "query")
        return Items(
            labels=labels[kept],
            class_names=tuple(names[column] for column in columns),
            official=official,
            **self._select_view(features, {}),
        )

    def _load_tables(self) -> dict[str, Tensor]:
        """Return the tables of all n items.

        Returns:
            image float32 (n, 500), text uint8 (n, 1000) and labels uint8 (n, 81); train uint8 (n,) if there is a list
            of images.
        """
        if not self.path.is_dir():
            raise InvalidInputError(f"{format_missing_path(self.path)} is not a folder; give one with {LAYOUT}.")
        files = [file for file in sorted(walk_files(self.path, hidden=True)) if file.suffix in (".txt", ".dat")]
        states = [(str(file.relative_to(self.path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = hashlib.sha256(json.dumps(states).encode()).hexdigest()
        return read_or_compute(self.cache, "nuswide", key, lambda _: self._read_tables())

    def _read_tables(self) -> dict[str, Tensor]:
        parts: dict[str, Callable[[], np.ndarray]] = {
            "labels": self._read_labels,
            "text": lambda: read_numbers(self.path / TAG_FILE, TAGS).astype(np.uint8),
            "image": self._read_words,
        }
        tables: dict[str, Tensor] = {}
        for name, read in track(parts.items(), "NUS-WIDE"):
            tables[name] = torch.from_numpy(read())
            if len(tables[name]) != len(tables["labels"]):
                raise InvalidInputError(
                    f"{self.path} has labels of {len(tables['labels'])} items and {name} features of "
                    f"{len(tables[name])}; all files must have the same items: unpack them again."
                )
        if (self.path / IMAGE_LIST).is_file():
            tables["train"] = torch.from_numpy(self._read_part_masks()["Train"].astype(np.uint8))
            if len(tables["train"]) != len(tables["labels"]):
                raise InvalidInputError(
                    f"{self.path / IMAGE_LIST} lists {len(tables['train'])} images and {self.path / LABELS} has labels "
                    f"of {len(tables['labels'])}; all files must have the same items: unpack them again."
                )
        return tables

    def _list_concepts(self) -> list[str]:
        names = sorted(file.stem.removeprefix("Labels_") for file in (self.path / LABELS).glob("Labels_*.txt"))
        if len(names) != CONCEPTS:
            raise InvalidInputError(
                f"{self.path / LABELS} has labels of {len(names)} concepts, not {CONCEPTS}: {LAYOUT}."
            )
        return names

    def _read_labels(self) -> np.ndarray:
        columns = [read_numbers(self.path / LABELS / f"Labels_{name}.txt", 1)[:, 0] for name in self._list_concepts()]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise InvalidInputError(
                f"the files of {self.path / LABELS} have {min(lengths)} to {max(lengths)} lines; expected one number."
            )
        return np.stack(columns, 1).astype(np.uint8)

    def _read_words(self) -> np.ndarray:
        """Read the word counts of all items, from one file or from one file per part."""
        if (self.path / WORD_FILE).is_file() or not (self.path / WORD_PARTS["Train"]).is_file():
            return read_numbers(self.path / WORD_FILE, WORDS)
        masks = self._read_part_masks()
        words = np.empty((len(masks["Train"]), WORDS), np.float32)
        for part, file in WORD_PARTS.items():
            rows = read_numbers(self.path / file, WORDS)
            if len(rows) != masks[part].sum():
                raise InvalidInputError(
                    f"{self.path / file} has {len(rows)} rows and {PART_LISTS[part]} {masks[part].sum()} images; "
                    "expected equal numbers: unpack them again."
                )
            words[masks[part]] = rows
        return words

    def _read_part_masks(self) -> dict[str, np.ndarray]:
        """Return masks of the publisher's two parts, bool (n,) each.

        Images and features of a part are in the order of the whole list.
        """
        images = self._read_list(IMAGE_LIST)
        members = {part: set(self._read_list(file)) for part, file in PART_LISTS.items()}
        masks = {part: np.fromiter((name in names for name in images), np.bool_) for part, names in members.items()}
        if not (masks["Train"] ^ masks["Test"]).all():
            raise InvalidInputError(
                f"an image of {IMAGE_LIST} is in both or neither of {' and '.join(PART_LISTS.values())}."
            )
        return masks

    def _read_list(self, file: str) -> list[str]:
        # "actor\0001_2124494179.jpg", after a folder of the publisher's disk in some editions.
        lines = read_lines(self.path / file, LAYOUT, "latin-1")
        return ["/".join(line.replace("\\", "/").split("/")[-2:]) for line in lines]
