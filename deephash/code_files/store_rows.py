"""Rows in an object store, read by pyarrow or fsspec: a folder of Parquet files, or of images."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from deephash.code_files.fingerprint import fingerprint_listing
from deephash.code_files.image_rows import ImageRows
from deephash.code_files.open_source import find_image_size
from deephash.code_files.rows import RowSource
from deephash.code_files.run_descriptors import image_descriptor
from deephash.code_files.table_rows import TableRows, rebatch
from deephash.data.descriptors.base import Descriptor
from deephash.data.image_decoding import list_image_endings
from deephash.data.stored_index import find_index_columns
from deephash.io.files import describe_error, reading
from deephash.io.folder_walk import walk_files
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

PARQUET = ".parquet"


@dataclass(frozen=True)
class StoredFile:
    """A file in a store.

    Args:
        path: path in the store.
        state: size and modification time.
    """

    path: str
    state: str


class Store:
    """A folder, or a file, in an object store.

    Args:
        address: address with its scheme, such as s3://BUCKET/FOLDER or file:///FOLDER. fsspec opens schemes that
            pyarrow does not support; packages such as adlfs and huggingface_hub add further schemes.

    Raises:
        InvalidInputError: pyarrow is not installed, or the store cannot be read.
    """

    def __init__(self, address: str) -> None:
        try:
            from pyarrow import fs
        except ImportError as error:
            raise InvalidInputError(
                f"{address} cannot be read without pyarrow ({error}); pip install 'deephash[ray-cluster]'."
            ) from error
        self.address = address
        try:
            self.system, self.root = fs.FileSystem.from_uri(address)
        except Exception:  # A scheme that pyarrow does not support.
            try:
                import fsspec

                system, self.root = fsspec.core.url_to_fs(address)
                self.system = fs.PyFileSystem(fs.FSSpecHandler(system))
            except Exception as error:  # Each store has its own exceptions.
                raise self.unreadable(error) from error
        self.root = self.root.rstrip("/")
        try:
            root_info = self.system.get_file_info(self.root)
            if root_info.is_file:
                listed = [root_info]
            elif isinstance(self.system, fs.LocalFileSystem) and Path(self.root).is_dir():
                # pyarrow would follow circular links up to the maximal length of a path, and omit broken links.
                listed = self.system.get_file_info([str(file) for file in walk_files(Path(self.root), hidden=True)])
            else:
                listed = self.system.get_file_info(fs.FileSelector(self.root, recursive=True))
        except InvalidInputError:
            raise
        except Exception as error:  # Each store has its own exceptions.
            raise self.unreadable(error) from error
        self.files = [
            StoredFile(found.path, f"{found.size} {found.mtime_ns}")
            for found in sorted(listed, key=lambda found: found.path)
            if found.is_file
        ]

    def read(self, path: str) -> bytes:
        """Read a file completely."""
        with self.system.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def fingerprint(self, files: Sequence[StoredFile]) -> dict[str, Any]:
        """Return the number of files, and a SHA-256 of their paths, sizes and modification times."""
        return fingerprint_listing(self.address, (f"{file.path}\0{file.state}" for file in files))

    def unreadable(self, error: Exception) -> InvalidInputError:
        """Return the error for a store that cannot be read."""
        return InvalidInputError(
            f"{self.address} cannot be read ({describe_error(error)}); check the address and your access to it."
        )


@final
class StoredTableRows(TableRows):
    """Rows of Parquet files in a store, in the order of their paths.

    Args:
        address: address of a folder, or of one file.
        features: one column of lists, or several columns of numbers; None uses all columns except the ids.
        ids: column of ids; None uses `id` if there is one, or else row numbers.

    Raises:
        InvalidInputError: no Parquet files, files with different columns, or an error of `TableRows`.
    """

    def __init__(self, address: str, features: Sequence[str] | None = None, ids: str | None = None) -> None:
        self.store = Store(address)
        self.files = [file for file in self.store.files if file.path.endswith(PARQUET)]
        if not self.files:
            raise InvalidInputError(f"{address} holds no Parquet files; give a folder of Parquet files or images.")
        self.lengths: list[int] = []
        super().__init__(Path(address), features, ids)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the files, and the names of the columns."""
        return {**self.store.fingerprint(self.files), "features": self.columns, "ids": self.id_column}

    def _schema(self) -> Mapping[str, Any]:
        import polars

        schemas = []
        for file in self.files:
            with self._open(file) as opened:
                self.lengths.append(opened.metadata.num_rows)
                schemas.append(opened.schema_arrow)
        for file, schema in zip(self.files, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise InvalidInputError(
                    f"{file.path} and {self.files[0].path} have different columns; give files with the same names and "
                    "types."
                )
        self._pandas = {(schema.metadata or {}).get(b"pandas") for schema in schemas}
        empty: polars.DataFrame = polars.from_arrow(schemas[0].empty_table())  # type: ignore[assignment]
        return empty.schema

    def _index_columns(self, schema: Mapping[str, Any]) -> Sequence[str]:
        with self._reading():
            named = {name for metadata in self._pandas for name in find_index_columns(schema, metadata)}
            return [name for name in schema if name in named]

    def _extremes(self, name: str) -> tuple[int | None, int | None]:
        pairs = [(frame[name].min(), frame[name].max()) for frame in self._groups([name], 0)]
        found: list[Any] = [value for pair in pairs for value in pair if value is not None]
        return (min(found), max(found)) if found else (None, None)

    def _frames(self, columns: list[str], start: int, rows: int) -> Iterator["polars.DataFrame"]:
        return rebatch(self._groups(columns, start), rows)

    def _groups(self, columns: list[str], start: int) -> Iterator["polars.DataFrame"]:
        """Yield the row groups from row `start` on; the first is cut at this row, and earlier groups are not read."""
        import polars

        first = 0
        for file, length in zip(self.files, self.lengths, strict=True):
            if first + length > start:
                with self._open(file) as opened:
                    for group in range(opened.num_row_groups):
                        count = opened.metadata.row_group(group).num_rows
                        if first + count > start:
                            with self._reading_file(file):
                                frame: Any = polars.from_arrow(opened.read_row_group(group, columns=columns))
                            yield frame.slice(max(0, start - first))
                        first += count
            else:
                first += length

    def _count(self) -> int:
        return sum(self.lengths)

    def _first_length(self) -> int:
        import polars

        for frame in self._groups(self.columns, 0):
            lengths = frame[self.columns[0]].cast(polars.List(polars.Float32)).list.len()
            if (found := lengths.filter(lengths > 0)).len():
                return int(found[0])
        raise InvalidInputError(f"column {self.columns[0]!r} of {self.store.address} holds no list with a value in it.")

    def _open(self, file: StoredFile) -> Any:
        from pyarrow import parquet

        with self._reading_file(file):
            return parquet.ParquetFile(self.store.system.open_input_file(file.path))

    def _reading(self) -> AbstractContextManager[None]:
        """Turn errors of the decoder into one line that names the folder."""
        return reading(self.store.address, f"{PARQUET} data", "write it again, or check your access to it")

    def _reading_file(self, file: StoredFile) -> AbstractContextManager[None]:
        """Turn errors of pyarrow and of the store into one line that names the file."""
        return reading(file.path, f"{PARQUET} data", "write it again, or check your access to it")


@final
class StoredImageRows(ImageRows):
    """Images at any depth of a folder in a store; ids are their paths relative to that folder.

    Args:
        address: address of the folder.
        descriptor: descriptor that computes their features.
        size: side in pixels to which images are scaled and cropped.

    Raises:
        InvalidInputError: no images in the folder.
    """

    def __init__(self, address: str, descriptor: Descriptor, size: int) -> None:
        self.store = Store(address)
        self.descriptor = descriptor
        self.size = size
        self.stored = [file for file in self.store.files if file.path.lower().endswith(list_image_endings())]
        if not self.stored:
            raise InvalidInputError(f"{address} holds neither Parquet files nor images; give another address.")
        self.names = [file.path[len(self.store.root) + 1 :] for file in self.stored]
        self.rows = len(self.names)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the files, and the settings of decoding and descriptor."""
        return {**self.store.fingerprint(self.stored), **self._description()}

    def _read(self, name: str) -> np.ndarray:
        return self._scale(io.BytesIO(self.store.read(f"{self.store.root}/{name}")))


def open_store_rows(
    address: str, run: str | Path, *, features: Sequence[str] | None, ids: str | None, image_size: int | None
) -> RowSource:
    """Open Parquet files in a store, or images if there are no Parquet files; arguments as for `open_source`."""
    if any(file.path.endswith(PARQUET) for file in Store(address).files):
        return StoredTableRows(address, features, ids)
    descriptor = image_descriptor(Path(run))
    return StoredImageRows(address, descriptor, find_image_size(descriptor, image_size, run))
