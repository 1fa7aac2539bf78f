"""Rows in an object store, by pyarrow or any file system of fsspec: a folder of Parquet files, or of images."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from deephash.code_files.image_rows import ImageRows
from deephash.code_files.open_source import side_of
from deephash.code_files.rows import RowSource
from deephash.code_files.run_descriptors import image_descriptor
from deephash.code_files.table_rows import TableRows, rebatched
from deephash.data.descriptors.base import Descriptor
from deephash.data.image_decoding import image_endings, read_image
from deephash.data.stored_index import index_columns
from deephash.io.files import reading
from deephash.io.folder_walk import walk_files
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

PARQUET = ".parquet"


@dataclass(frozen=True)
class StoredFile:
    """A file in a store.

    Args:
        path: as the store calls it.
        state: its size and time of change.
    """

    path: str
    state: str


class Store:
    """A folder, or a file, in an object store.

    Args:
        address: with its scheme, as s3://BUCKET/FOLDER or file:///FOLDER. What pyarrow does not know goes to fsspec,
            whose own packages, as adlfs or huggingface_hub, bring further schemes.

    Raises:
        InvalidInputError: pyarrow is not installed, no such store, or nothing there.
    """

    def __init__(self, address: str) -> None:
        try:
            from pyarrow import fs
        except ImportError as error:
            raise InvalidInputError(
                f"{address} is read by pyarrow ({error}); pip install 'deephash[ray-cluster]'."
            ) from error
        self.address = address
        try:
            self.system, self.root = fs.FileSystem.from_uri(address)
        except Exception:  # Unknown to pyarrow, as ArrowInvalid or others.
            try:
                import fsspec

                system, self.root = fsspec.core.url_to_fs(address)
                self.system = fs.PyFileSystem(fs.FSSpecHandler(system))
            except Exception as error:  # Each store has errors of its own.
                raise self.unreadable(error) from error
        self.root = self.root.rstrip("/")
        try:
            there = self.system.get_file_info(self.root)
            if there.is_file:
                listed = [there]
            elif isinstance(self.system, fs.LocalFileSystem) and Path(self.root).is_dir():
                # pyarrow would go round in links for as long as names may be, and leave out those to nothing.
                listed = self.system.get_file_info([str(file) for file in walk_files(Path(self.root), hidden=True)])
            else:
                listed = self.system.get_file_info(fs.FileSelector(self.root, recursive=True))
        except InvalidInputError:
            raise
        except Exception as error:  # Each store has errors of its own.
            raise self.unreadable(error) from error
        self.files = [
            StoredFile(found.path, f"{found.size} {found.mtime_ns}")
            for found in sorted(listed, key=lambda found: found.path)
            if found.is_file
        ]

    def read(self, path: str) -> bytes:
        """All of a file."""
        with self.system.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def fingerprint(self, files: Sequence[StoredFile]) -> dict[str, Any]:
        """Number of files, and a SHA-256 of each one's path, size and time of change."""
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.path}\0{file.state}\n".encode())
        return {"path": self.address, "files": len(files), "states": digest.hexdigest()}

    def unreadable(self, error: Exception) -> InvalidInputError:
        """The error of what cannot be read."""
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return InvalidInputError(f"{self.address} cannot be read ({reason}); check the address and your access to it.")


@final
class StoredTableRows(TableRows):
    """The rows of Parquet files in a store, in the order of their paths.

    Args:
        address: of a folder, or of one file.
        features: columns: one of lists, or several of numbers; None takes all but the ids.
        ids: the column of ids; None takes `id` where there is one, or else rows' places.

    Raises:
        InvalidInputError: no Parquet files there, files of different columns, or what `TableRows` refuses.
    """

    def __init__(self, address: str, features: Sequence[str] | None = None, ids: str | None = None) -> None:
        self.store = Store(address)
        self.files = [file for file in self.store.files if file.path.endswith(PARQUET)]
        if not self.files:
            raise InvalidInputError(f"{address} holds no Parquet files; give a folder of some, or of images.")
        self.lengths: list[int] = []
        super().__init__(Path(address), features, ids)

    def fingerprint(self) -> dict[str, Any]:
        """The files' names, sizes and times of change, and which columns of them."""
        return {**self.store.fingerprint(self.files), "features": self.columns, "ids": self.id_column}

    def _schema(self) -> Mapping[str, Any]:
        import polars

        schemas = []
        for file in self.files:
            with self._opened(file) as opened:
                self.lengths.append(opened.metadata.num_rows)
                schemas.append(opened.schema_arrow)
        for file, schema in zip(self.files, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise InvalidInputError(
                    f"{file.path} has other columns than {self.files[0].path}, by name or type; give files of one kind."
                )
        self._pandas = {(schema.metadata or {}).get(b"pandas") for schema in schemas}
        empty: polars.DataFrame = polars.from_arrow(schemas[0].empty_table())  # type: ignore[assignment]
        return empty.schema

    def _index_columns(self, schema: Mapping[str, Any]) -> Sequence[str]:
        with self._reading():
            named = {name for metadata in self._pandas for name in index_columns(schema, metadata)}
            return [name for name in schema if name in named]

    def _extremes(self, name: str) -> tuple[int | None, int | None]:
        pairs = [(frame[name].min(), frame[name].max()) for frame in self._groups([name], 0)]
        found: list[Any] = [value for pair in pairs for value in pair if value is not None]
        return (min(found), max(found)) if found else (None, None)

    def _frames(self, columns: list[str], start: int, rows: int) -> Iterator["polars.DataFrame"]:
        return rebatched(self._groups(columns, start), rows)

    def _groups(self, columns: list[str], start: int) -> Iterator["polars.DataFrame"]:
        """Row groups from a row on, the first one cut; those before are not read."""
        import polars

        first = 0
        for file, length in zip(self.files, self.lengths, strict=True):
            if first + length > start:
                with self._opened(file) as opened:
                    for group in range(opened.num_row_groups):
                        count = opened.metadata.row_group(group).num_rows
                        if first + count > start:
                            with self._reading_of(file):
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

    def _opened(self, file: StoredFile) -> Any:
        from pyarrow import parquet

        with self._reading_of(file):
            return parquet.ParquetFile(self.store.system.open_input_file(file.path))

    def _reading(self) -> AbstractContextManager[None]:
        """Turns what the decoder raises into one line that names the folder; `_reading_of` names the file."""
        return reading(self.store.address, f"{PARQUET} data", "write it again, or see to your access to it")

    def _reading_of(self, file: StoredFile) -> AbstractContextManager[None]:
        """Turns what pyarrow raises, and each store's own errors, into one line that names the file."""
        return reading(file.path, f"{PARQUET} data", "write it again, or see to your access to it")


@final
class StoredImageRows(ImageRows):
    """Images at any depth of a folder in a store; ids are their paths from there.

    Args:
        address: of the folder.
        descriptor: what turns them into features.
        size: side in pixels to which they are scaled and cropped for it.

    Raises:
        InvalidInputError: no images there.
    """

    def __init__(self, address: str, descriptor: Descriptor, size: int) -> None:
        self.store = Store(address)
        self.descriptor = descriptor
        self.size = size
        self.stored = [file for file in self.store.files if file.path.lower().endswith(image_endings())]
        if not self.stored:
            raise InvalidInputError(f"{address} holds neither Parquet files nor images; give the address of some.")
        self.names = [file.path[len(self.store.root) + 1 :] for file in self.stored]
        self.rows = len(self.names)

    def fingerprint(self) -> dict[str, Any]:
        """The files' names, sizes and times of change, and how they are described."""
        return {**self.store.fingerprint(self.stored), **self._description()}

    def _read(self, name: str) -> np.ndarray:
        return read_image(io.BytesIO(self.store.read(f"{self.store.root}/{name}")), self.size)


def open_store_rows(
    address: str, run: str | Path, *, features: Sequence[str] | None, ids: str | None, image_size: int | None
) -> RowSource:
    """The rows of Parquet files in a store, or of images where it holds none.

    Args:
        address: of a folder or file.
        run: whose data say how images become features.
        features: columns of a table.
        ids: column of ids.
        image_size: side in pixels to which images are scaled; None takes that of the run's data.

    Raises:
        InvalidInputError: neither of them there, or images for a run of none.
    """
    if any(file.path.endswith(PARQUET) for file in Store(address).files):
        return StoredTableRows(address, features, ids)
    descriptor = image_descriptor(Path(run))
    return StoredImageRows(address, descriptor, side_of(descriptor, image_size, run))
