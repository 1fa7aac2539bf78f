"""Open a source of rows by the kind of its path."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deephash.code_files.array_rows import open_npy, open_npz, open_vectors
from deephash.code_files.rows import RowSource
from deephash.code_files.table_rows import CSV, TableRows
from deephash.data.vectors import COMPONENTS
from deephash.io.files import format_missing_path
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    from deephash.data.descriptors.base import Descriptor

TABLES = (".parquet", CSV)
ENDINGS = (".npy", ".npz", *TABLES, *COMPONENTS)


def open_source(
    path: str | Path,
    run: str | Path,
    *,
    features: Sequence[str] | None = None,
    ids: str | None = None,
    image_size: int | None = None,
    header: bool | None = None,
) -> RowSource:
    """Open a file of features, or a folder of Parquet files or images.

    Args:
        path: a `.npy`, `.npz`, `.parquet`, `.csv`, `.fvecs`, `.bvecs` or `.ivecs` file; a folder of Parquet files or of
            images; or the address of such a folder in an object store, such as s3://BUCKET/FOLDER.
        run: folder of the run whose hasher encodes the rows; its data determine the features of images.
        features: array of an `.npz`, or columns of a table; None uses the only array, or all columns except the ids.
        ids: column of ids in a table; None uses `id` if there is one.
        image_size: side in pixels to which images are scaled; None uses that of the run's data.
        header: whether the first line of a CSV file names its columns. None is like True, but an unclear line raises an
            error.

    Raises:
        InvalidInputError: a missing or damaged file, another kind of file, or images for a run without images.
    """
    if header is not None and Path(path).suffix != CSV:
        raise InvalidInputError(f"{path} is not a {CSV} file; leave {'--header' if header else '--no-header'} out.")
    if "://" in str(path):
        from deephash.code_files.store_rows import open_store_rows

        return open_store_rows(str(path), run, features=features, ids=ids, image_size=image_size)
    path = Path(path).expanduser()
    if path.is_dir() and any(path.glob("*.parquet")):
        from deephash.code_files.store_rows import StoredTableRows

        return StoredTableRows(path.resolve().as_uri(), features, ids)
    if path.is_dir():
        # Data sets, and Lightning with them, are slow to import.
        from deephash.code_files.image_rows import ImageRows
        from deephash.code_files.run_descriptors import image_descriptor

        descriptor = image_descriptor(Path(run))
        return ImageRows(path, descriptor, find_image_size(descriptor, image_size, run))
    if path.suffix not in ENDINGS:
        raise InvalidInputError(f"{path} is not a folder of images and does not end in one of: {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise InvalidInputError(
            f"{format_missing_path(path)} does not exist; give a file ({', '.join(ENDINGS)}) or a folder of images."
        )
    if path.suffix in TABLES:
        return TableRows(path, features, ids, header)
    if ids is not None:
        raise InvalidInputError(f"{path} has no columns of ids; leave --ids {ids} out.")
    if path.suffix == ".npz":
        if features is not None and len(features) > 1:
            raise InvalidInputError(f"--features names {len(features)} arrays of {path}; name one.")
        return open_npz(path, features[0] if features else None)
    if features is not None:
        raise InvalidInputError(f"{path} holds a single array; leave --features out.")
    return open_npy(path) if path.suffix == ".npy" else open_vectors(path)


def find_image_size(descriptor: "Descriptor", image_size: int | None, run: str | Path) -> int:
    """Return the side in pixels to which images are scaled: the given one, or that of the descriptor."""
    size = image_size or descriptor.image_size
    if size is None:
        raise InvalidInputError(
            f"the images of {run} have one size and are not scaled; give that size, such as --image-size 32."
        )
    return size
