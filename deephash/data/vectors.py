"""Files of vectors in the formats of the TEXMEX corpus: `.fvecs`, `.bvecs` and `.ivecs`.

Each vector is its dimension d, a little-endian int32, and then d components: float32, uint8 or int32.
"""

from pathlib import Path

import numpy as np

from deephash.io.files import format_missing_path, write_whole
from deephash.validation import InvalidInputError

COMPONENTS: dict[str, np.dtype] = {".fvecs": np.dtype("<f4"), ".bvecs": np.dtype("u1"), ".ivecs": np.dtype("<i4")}

MAX_DIMENSION = 1 << 20
"""Maximum dimension; a larger first number is a sign of another format."""


def read_vector_layout(path: str | Path) -> tuple[np.dtype, int]:
    """Read the record layout of a file of vectors.

    Args:
        path: a `.fvecs`, `.bvecs` or `.ivecs` file.

    Returns:
        The layout of a record, with the fields dimension and vector, and the number of records.

    Raises:
        InvalidInputError: a missing, truncated or empty file, or another format.
    """
    path = Path(path)
    component = _get_component_type(path)
    try:
        size = path.stat().st_size
        head = np.fromfile(path, "<i4", 1)
    except FileNotFoundError as error:
        raise InvalidInputError(f"{format_missing_path(path)} does not exist; give a file of vectors.") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read ({error.strerror}); give a readable file.") from error
    if len(head) == 0:
        raise InvalidInputError(f"{path} is {'truncated' if size else 'empty'}; expected at least one vector.")
    dimension = int(head[0])
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidInputError(
            f"{path} starts with the dimension {dimension}, so it is not in the {path.suffix} format; "
            "each vector must be an int32 dimension and its components."
        )
    layout = np.dtype([("dimension", "<i4"), ("vector", component, (dimension,))])
    if size % layout.itemsize:
        raise InvalidInputError(
            f"{path} has {size} bytes, not a multiple of the {layout.itemsize} of a vector of dimension {dimension}; "
            "it is truncated or damaged: download it again."
        )
    return layout, size // layout.itemsize


def extract_vectors(records: np.ndarray, path: str | Path, first: int = 0) -> np.ndarray:
    """Return the vectors of records, after checking that all have the same dimension.

    Args:
        records: (n,), in the layout of `read_vector_layout`.
        path: the file, for the message.
        first: position of the first record in the file.

    Raises:
        InvalidInputError: records of different dimensions.
    """
    dimension = records.dtype["vector"].shape[0]
    wrong = np.flatnonzero(records["dimension"] != dimension)
    if len(wrong):
        raise InvalidInputError(
            f"{path} has dimension {int(records['dimension'][wrong[0]])} at vector {first + wrong[0]} but {dimension} "
            "at the first; it is damaged or in another format."
        )
    vectors: np.ndarray = records["vector"]
    return vectors


def read_vectors(path: str | Path) -> np.ndarray:
    """Map the vectors of a file into memory without reading them.

    Args:
        path: a `.fvecs`, `.bvecs` or `.ivecs` file.

    Returns:
        float32, uint8 or int32 (n, d), read-only.

    Raises:
        InvalidInputError: a missing, truncated or empty file, another format, or vectors of several dimensions.
    """
    layout, _ = read_vector_layout(path)
    return extract_vectors(np.memmap(path, layout, mode="r"), path)


def write_vectors(path: str | Path, vectors: np.ndarray) -> None:
    """Write vectors atomically.

    Args:
        path: destination; the ending `.fvecs`, `.bvecs` or `.ivecs` determines the type.
        vectors: (n, d), values that the type represents exactly.

    Raises:
        InvalidInputError: an unknown ending, not a matrix, or values that the type cannot represent.
    """
    path = Path(path)
    component = _get_component_type(path)
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise InvalidInputError(f"vectors have shape {vectors.shape}; expected (n, d) with n and d at least 1.")
    records = np.empty(len(vectors), np.dtype([("dimension", "<i4"), ("vector", component, (vectors.shape[1],))]))
    records["dimension"] = vectors.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        records["vector"] = vectors
    if not np.array_equal(records["vector"], vectors, equal_nan=vectors.dtype.kind == "f"):
        raise InvalidInputError(
            f"vectors contain values that {component.name} cannot represent; choose another format than {path.suffix}."
        )
    write_whole(path, records.tofile)


def _get_component_type(path: Path) -> np.dtype:
    try:
        return COMPONENTS[path.suffix]
    except KeyError:
        raise InvalidInputError(f"{path} ends in {path.suffix!r}; expected one of: {', '.join(COMPONENTS)}.") from None
