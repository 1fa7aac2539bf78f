"""Which images a user has, and their labels: from class subfolders, or from a manifest."""

import csv
from dataclasses import dataclass
from pathlib import Path

from deephash.data.image_decoding import image_endings
from deephash.files import sought
from deephash.folder_walk import walk_files
from deephash.validation import InvalidInputError


@dataclass(frozen=True)
class Listing:
    """Image files and the label of each; labels is None where there are none."""

    files: list[Path]
    labels: list[str] | None


def find_images(folder: Path) -> list[Path]:
    """Files whose ending Pillow knows as an image's, at any depth and through links, in the order of their paths.

    Raises:
        InvalidInputError: no such folder, no images in it, or a link to what does not exist.
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{sought(folder)} is not a folder; give one with a subfolder of images a class.")
    endings = image_endings()
    files = [file for file in walk_files(folder) if file.suffix.lower() in endings]
    if not files:
        raise InvalidInputError(f"{folder} holds no images; expected a subfolder of images for each class.")
    return files


def list_folder(folder: Path) -> Listing:
    """Images in class subfolders, or, where there is no subfolder, in the folder itself without labels.

    Raises:
        InvalidInputError: no such folder, or no images in it, or some inside and some outside class subfolders.
    """
    files = find_images(folder)
    loose = [file for file in files if file.parent == folder]
    if len(loose) == len(files):
        return Listing(files, None)
    if loose:
        raise InvalidInputError(
            f"{folder} holds {len(loose)} images outside its class subfolders, the first {loose[0].name}; move them "
            "into one, or give a manifest."
        )
    return Listing(files, [file.relative_to(folder).parts[0] for file in files])


def list_manifest(manifest: Path) -> Listing:
    """Images that a CSV file names, in its order: a heading "path,label" or "path", then a line for each.

    Relative paths start from the manifest's folder.

    Raises:
        InvalidInputError: no such file, another heading, an empty field, or files that do not exist.
    """
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey="", strict=True)
            heading = reader.fieldnames or []
            if "path" not in heading:
                raise InvalidInputError(f"{manifest} has the heading {','.join(heading)!r}; expected 'path,label'.")
            rows = list(reader)
    except OSError as error:
        raise InvalidInputError(f"{sought(manifest)} cannot be read ({error.strerror}); give a CSV file.") from error
    except (csv.Error, ValueError) as error:
        raise InvalidInputError(f"{manifest} is not a CSV file in UTF-8 ({error}); save it as one.") from error
    if not rows:
        raise InvalidInputError(f"{manifest} lists no images; expected a line 'path,label' for each.")
    for line, row in enumerate(rows, 2):
        if not row["path"] or ("label" in heading and not row["label"]):
            raise InvalidInputError(f"{manifest} has no path or no label in row {line}; fill it or drop the row.")
    files = [manifest.parent / row["path"] for row in rows]
    if missing := [file for file in files if not file.is_file()]:
        raise InvalidInputError(
            f"{manifest} names {len(missing)} files that do not exist, the first {missing[0]}; relative paths "
            f"start from {manifest.parent}."
        )
    return Listing(files, [row["label"] for row in rows] if "label" in heading else None)
