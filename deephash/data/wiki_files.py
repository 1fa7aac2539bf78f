"""The published files of the Wikipedia articles: features in MATLAB's format, and lists of the articles."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deephash.data.image_text_base import read_lines
from deephash.data.trial import MATLAB, try_decoding
from deephash.io.files import reading
from deephash.io.folder_walk import walk_files
from deephash.validation import InvalidInputError

FEATURES = "raw_features.mat"
LISTS = {"train": "trainset_txt_img_cat.list", "test": "testset_txt_img_cat.list"}
CATEGORIES = "categories.list"
VARIABLES = {"image_train": "I_tr", "image_test": "I_te", "text_train": "T_tr", "text_test": "T_te"}
CLASSES = (
    "art",
    "biology",
    "geography",
    "history",
    "literature",
    "media",
    "music",
    "royalty",
    "sport",
    "warfare",
)
"""The publisher's order; labels in the lists count from 1."""

ARTICLE = re.compile(r"<text>(.*?)</text>", re.DOTALL)
LAYOUT = f"{FEATURES}, {LISTS['train']} and {LISTS['test']}"


@dataclass(frozen=True)
class Article:
    """A line of a list: text file and image file of an article, without their endings, and its class from 0."""

    text: str
    image: str
    label: int


def find_wiki_folder(path: Path) -> Path:
    """Find the folder with the features: the path itself, or the only such folder below it.

    Raises:
        InvalidInputError: no such folder, or several.
    """
    if (path / FEATURES).is_file():
        return path
    files = [file for file in walk_files(path) if file.name == FEATURES] if path.is_dir() else []
    if len(files) != 1:
        raise InvalidInputError(f"{path} contains {FEATURES} {len(files)} times; give the folder of {LAYOUT}.")
    return files[0].parent


def read_matrices(folder: Path) -> dict[str, np.ndarray]:
    """Read the publisher's four matrices as image_train, image_test, text_train and text_test.

    Raises:
        InvalidInputError: a damaged file, or a missing matrix.
    """
    from scipy.io import loadmat

    path = folder / FEATURES
    with reading(path, "matrices", "unpack or fetch it again"):
        try_decoding(MATLAB, path, *VARIABLES.values())
        stored = loadmat(path, variable_names=list(VARIABLES.values()))
    if missing := [name for name in VARIABLES.values() if name not in stored]:
        raise InvalidInputError(f"{path} has no {' and no '.join(missing)}; it is the wrong file: download it again.")
    return {name: np.asarray(stored[variable]) for name, variable in VARIABLES.items()}


def read_list(folder: Path, part: str, classes: int) -> list[Article]:
    """Read the articles of a part, "train" or "test", in the order of the feature rows.

    Raises:
        InvalidInputError: a missing file, or a line that is not a text, an image and a class.
    """
    path = folder / LISTS[part]
    articles = []
    for number, line in enumerate(read_lines(path, LAYOUT), 1):
        fields = line.split()
        if len(fields) != 3 or not fields[2].isdecimal() or not 1 <= int(fields[2]) <= classes:
            raise InvalidInputError(
                f"line {number} of {path} is {line!r}; expected a text, an image and a class from 1 to {classes}."
            )
        articles.append(Article(fields[0], fields[1], int(fields[2]) - 1))
    return articles


def read_categories(folder: Path) -> tuple[str, ...]:
    """Read the names of the classes; without the file, return the publisher's."""
    path = folder / CATEGORIES
    if not path.is_file():
        return CLASSES
    # A line may have the number of the class before or after its name.
    return tuple(" ".join(word for word in line.split() if not word.isdecimal()) for line in read_lines(path, LAYOUT))


def read_article_texts(folder: Path, articles: Sequence[Article]) -> tuple[str, ...] | None:
    """Read the texts of the articles, one line each; return None if the folder has no `texts`.

    Raises:
        InvalidInputError: a text that is missing or has no text element.
    """
    if not (folder / "texts").is_dir():
        return None
    texts = []
    for article in articles:
        path = folder / "texts" / f"{article.text}.xml"
        if not path.is_file():
            raise InvalidInputError(f"{path} does not exist; unpack the texts again, or remove their folder.")
        element = ARTICLE.search(path.read_text(encoding="utf-8", errors="replace"))
        if element is None:
            raise InvalidInputError(f"{path} has no <text> element; unpack the texts again, or remove their folder.")
        texts.append(" ".join(html.unescape(element[1]).split()))
    return tuple(texts)


def find_article_images(folder: Path, articles: Sequence[Article], classes: Sequence[str]) -> list[Path] | None:
    """Return the image files of the articles, in one folder per class; None if the folder has no `images`."""
    images = folder / "images"
    if not images.is_dir():
        return None
    return [images / classes[article.label] / f"{article.image}.jpg" for article in articles]
