"""Your own images: one subfolder per class, or a manifest that lists files and labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from torch import Tensor

from deephash.data.base import HashingDataModule
from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.file_features import THUMBNAIL, read_or_describe_files
from deephash.data.file_rows import FileRows
from deephash.data.image_listing import list_folder
from deephash.data.image_manifest import ENDINGS, Listing, list_manifest
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.data.streamed_images import MAX_PIXEL_BYTES, ImageFiles, PixelRows, Thumbnails, stream_pixels
from deephash.io.path_settings import FilePath
from deephash.io.progress import track
from deephash.io.sealed_files import file_digest
from deephash.validation import InvalidInputError


@final
class ImageFolder(HashingDataModule):
    """Images in class subfolders or listed by a manifest, as GIST or pixels.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: a folder with a subfolder of images for each class, or a manifest for `list_manifest`, such as a CSV file
            with the heading "path,label".
        descriptor: computes the features; its `image_size` is the side to which images are scaled and cropped.
        labels_key: label columns of a manifest, of 0 and 1 or of names.
        label_separator: separator of several labels in a field of a manifest: space, comma, semicolon, bar, tab
            or another character; "none" if each field is one label. None raises an error if a field may be
            either.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, or a descriptor without an image size.
    """

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        descriptor: Descriptor,
        labels_key: str | Sequence[str] | None = None,
        label_separator: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split)
        if not path:
            raise InvalidInputError(f"path={path!r}; give the folder of your images or a manifest: data.path=FOLDER.")
        if descriptor.image_size is None:
            raise InvalidInputError("descriptor.image_size=None; set the side in pixels to which images are scaled.")
        self.path = Path(path).expanduser()
        self.descriptor = descriptor
        self.labels_key = labels_key
        self.label_separator = label_separator
        self.cache = cache
        self._read_files: tuple[list[Path], list[str]] | None = None

    def prepare_data(self) -> None:
        """Compute the features once."""
        if self.is_read:
            return
        listing = self._list()
        if self._stream(listing) is None:
            self._describe(listing)

    def are_labelled(self) -> bool:
        """Return whether there are class subfolders, or a manifest with labels."""
        return self._list().labels is not None

    def load(self) -> Items:
        """Read the cached features and the labels.

        Raises:
            InvalidInputError: no images, or files that cannot be read.
        """
        listing = self._list()
        computed_from = {"": words_digest(self._read_digests(listing))}
        features: Tensor | FileRows | None = self._stream(listing)
        if features is not None:
            images: np.ndarray | Thumbnails = Thumbnails(ImageFiles(listing.files, THUMBNAIL))
        else:
            described = self._describe(listing)
            features, images = described["features"], described["thumbnails"].numpy()
        return Items(features, listing.labels, listing.class_names, images=images, computed_from=computed_from)

    def _stream(self, listing: Listing) -> PixelRows | None:
        """Return pixels that are decoded when they are read, if they would take more than 1 GB; else None."""
        rows = stream_pixels(listing.files, self.descriptor)
        return None if rows is None or 4 * rows.shape[0] * rows.shape[1] <= MAX_PIXEL_BYTES else rows

    def _list(self) -> Listing:
        if self.path.suffix.lower() in ENDINGS and not self.path.is_dir():
            return list_manifest(self.path, self.labels_key, self.label_separator)
        if self.labels_key is not None or self.label_separator is not None:
            raise InvalidInputError(
                f"data.labels_key and data.label_separator apply to manifests, but {self.path} is a folder; omit them: "
                "the subfolders are the classes."
            )
        return list_folder(self.path)

    def _read_digests(self, listing: Listing) -> list[str]:
        """Return digests of the files, each of which is read once."""
        if self._read_files is None or self._read_files[0] != listing.files:
            digests = []
            for file in track(listing.files, "Checking images"):
                try:
                    digests.append(file_digest(file))
                except OSError as error:
                    raise InvalidInputError(
                        f"{file} cannot be read ({error.strerror}); repair or remove it."
                    ) from error
            self._read_files = (listing.files, digests)
        return self._read_files[1]

    def _describe(self, listing: Listing) -> dict[str, Tensor]:
        contents = map(bytes.fromhex, self._read_digests(listing))
        return read_or_describe_files(listing.files, self.descriptor, self.cache, contents)
