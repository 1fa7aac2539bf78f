"""Reading one array from a file: `.npy`, `.npz`, `.parquet`, `.fvecs`, `.bvecs` or `.ivecs`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deephash.data.stored_index import find_ids, find_index_columns, log_left_out
from deephash.data.trial import PARQUET, try_decoding
from deephash.data.vectors import COMPONENTS, read_vectors
from deephash.io.files import format_missing_path, reading
from deephash.io.npy_file import map_npy
from deephash.io.npz_file import check_size, open_npz
from deephash.validation import InvalidInputError

ENDINGS = (".npy", ".npz", ".parquet", *COMPONENTS)
GIVE_KEYS = "give the wanted columns as keys"


def read_array(
    path: str | Path, keys: str | Sequence[str] | None = None, drop: str | Sequence[str] | None = None
) -> np.ndarray:
    """Read an array.

    Args:
        path: the file; its ending determines the format.
        keys: array of an `.npz` file, or columns of a Parquet file: one column of lists or any number of
            scalar columns. None reads the only array of an `.npz` file, or all columns of a Parquet file
            except ids and pandas indexes.
        drop: arrays or columns that are not read if `keys` is None, such as labels beside features.

    Returns:
        An array of any dtype except object, possibly read-only. Several scalar columns form a matrix, a single one a
        vector.

    Raises:
        InvalidInputError: a missing file, array or column, a damaged file, or a file of Python objects.
    """
    path = Path(path).expanduser()
    if path.suffix not in ENDINGS:
        raise InvalidInputError(f"{path} ends in {path.suffix!r}; expected one of: {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise InvalidInputError(f"{format_missing_path(path)} does not exist; give a file ({', '.join(ENDINGS)}).")
    if keys is not None and path.suffix not in (".npz", ".parquet"):
        raise InvalidInputError(f"{path} contains a single array without keys, but the key is {keys!r}; omit it.")
    drop = [drop] if isinstance(drop, str) else list(drop or ())
    if path.suffix in COMPONENTS:
        return read_vectors(path)
    if path.suffix == ".parquet":
        return _read_parquet(path, keys, drop)
    if path.suffix == ".npz":
        return _read_npz(path, keys, drop)
    with reading_array(path):
        return map_npy(path)


def read_matrix(
    path: str | Path, keys: str | Sequence[str] | None = None, drop: str | Sequence[str] | None = None
) -> np.ndarray:
    """Read features as `read_array` does, but return a single Parquet column of scalars as a one-column matrix."""
    array = read_array(path, keys, drop)
    return array[:, None] if Path(path).suffix == ".parquet" and array.ndim == 1 else array


def _read_npz(path: Path, key: str | Sequence[str] | None, drop: Sequence[str]) -> np.ndarray:
    with reading_array(path), open_npz(path) as stored:
        if key is None:
            rest = [name for name in stored if name not in drop]
            if len(rest) != 1:
                raise InvalidInputError(f"{path} contains {_join_names(stored)}; give the key of the array to read.")
            key = rest[0]
        if not isinstance(key, str) or key not in stored:
            raise InvalidInputError(f"{path} has no array {key!r}; it contains {_join_names(stored)}.")
        return stored[key]


def _read_parquet(path: Path, keys: str | Sequence[str] | None, drop: Sequence[str]) -> np.ndarray:
    import polars

    with reading_array(path):  # a damaged page makes the decoder panic
        schema = polars.read_parquet_schema(path)
        names = [keys] if isinstance(keys, str) else list(keys or ())
        if not names:
            rest = [name for name in schema if name not in drop]
            index = find_index_columns(rest, polars.read_parquet_metadata(path).get("pandas"))
            log_left_out(path, index, GIVE_KEYS)
            names = [name for name in rest if name not in index]
            ids = [name for name in names if name == find_ids(names) and len(names) > 1]
            log_left_out(path, ids, GIVE_KEYS, "ids of the items")
            names = [name for name in names if name not in ids]
        for name in names:
            if name not in schema:
                raise InvalidInputError(f"{path} has no column {name!r}; it contains {_join_names(schema)}.")
            if names.count(name) > 1:
                raise InvalidInputError(f"column {name!r} of {path} is named {names.count(name)} times; name it once.")
        if not names:
            raise InvalidInputError(f"{path} contains {_join_names(schema)}; no column is left to read.")
        rows = polars.scan_parquet(path, glob=False).select(polars.len()).collect().item()
        check_size(8 * rows * len(names), path.stat().st_size, path.name)
        try_decoding(PARQUET, path, *names)
        table = polars.read_parquet(path, columns=names, glob=False)
    for name in names:
        if missing := table[name].null_count():
            raise InvalidInputError(f"column {name!r} of {path} has {missing} missing values; fill or remove them.")
    if len(names) == 1:
        return _convert_column(path, table[names[0]])
    for name, kind in table.schema.items():
        if not (kind.is_numeric() or kind == polars.Boolean):
            raise InvalidInputError(
                f"column {name!r} of {path} is of type {kind}; several columns form a matrix only if all are "
                "numeric: name the columns to read."
            )
    return table.to_numpy()


def _convert_column(path: Path, column: "polars.Series") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    """Return a column as a vector, or a column of lists of equal length as a matrix."""
    import polars

    kind = column.dtype
    inner = kind.inner if isinstance(kind, polars.List) else kind
    if (inner.is_nested() and not isinstance(inner, polars.Array)) or (inner != kind and inner == polars.String):
        raise InvalidInputError(
            f"column {column.name!r} of {path} is of type {kind}; expected numbers, strings or lists of numbers."
        )
    if inner.is_decimal():
        column = column.cast(polars.Float64 if inner == kind else polars.List(polars.Float64))
    if isinstance(column.dtype, polars.List):
        lengths = column.list.len()
        if lengths.n_unique() > 1:
            raise InvalidInputError(
                f"column {column.name!r} of {path} has lists of {lengths.min()} to {lengths.max()} values; expected "
                "one length, the dimension."
            )
        column = column.reshape((len(column), lengths[0] if len(column) else 0))
    if column.dtype == polars.String or isinstance(column.dtype, polars.Categorical | polars.Enum):
        return np.array(column.cast(polars.String).to_list(), dtype=np.str_)
    array: np.ndarray = column.to_numpy()
    if array.dtype.kind == "O":
        raise build_objects_error(path)
    return array


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "nothing"


@contextmanager
def reading_array(path: Path) -> Iterator[None]:
    """Turn any parser error into an error that names the file and the format of its ending.

    Raises:
        InvalidInputError: any error of the block; for Python objects, the message says how to save without them.
    """
    with reading(path, f"{path.suffix} data", "write or fetch it again"):
        try:
            yield
        except ValueError as error:
            if "Python objects" in str(error):
                raise build_objects_error(path) from error
            raise


def build_objects_error(path: Path) -> InvalidInputError:
    """Return the error for a file that only unsafe unpickling can read."""
    return InvalidInputError(
        f"{path} contains Python objects, which only unsafe unpickling reads; save numbers or strings, for example "
        "with .astype(np.float32) or .astype(str)."
    )
