"""The images of a folder, labelled by their class subfolders."""

from pathlib import Path

import numpy as np

from deephash.data.image_decoding import list_image_endings
from deephash.data.image_manifest import Listing
from deephash.data.labels import NONE, parse_labels
from deephash.io.files import format_missing_path
from deephash.io.folder_walk import walk_files
from deephash.validation import InvalidInputError


def find_images(folder: Path) -> list[Path]:
    """Return the image files of a folder at any depth, sorted by path; links are followed.

    Raises:
        InvalidInputError: a missing folder, a folder without images, or a broken link.
    """
    if not folder.is_dir():
        raise InvalidInputError(
            f"{format_missing_path(folder)} is not a folder; give one with a subfolder of images for each class, "
            "or a .csv or .txt manifest."
        )
    endings = list_image_endings()
    files = [file for file in walk_files(folder) if file.suffix.lower() in endings]
    if not files:
        raise InvalidInputError(f"{folder} contains no images; expected a subfolder of images for each class.")
    return files


def list_folder(folder: Path) -> Listing:
    """List the images of class subfolders, or the unlabelled images of a folder without subfolders.

    Raises:
        InvalidInputError: a missing folder, no images, or images both inside and outside class subfolders.
    """
    files = find_images(folder)
    loose = [file for file in files if file.parent == folder]
    if len(loose) == len(files):
        return Listing(files)
    if loose:
        raise InvalidInputError(
            f"{folder} contains {len(loose)} images outside its class subfolders, the first {loose[0].name}; move them "
            "into one, or give a manifest."
        )
    classes = np.array([file.relative_to(folder).parts[0] for file in files])
    return Listing(files, *parse_labels(classes, len(files), f"class folders of {folder}", NONE))
