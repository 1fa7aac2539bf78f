"""Saved indexes: folders in which a reader always finds a complete index, even while another one is written.

`index.json` names a generation, the subfolder that contains `codes.npy`, the items' names, ids and columns, the
engine's own file, and the log of later changes. A save fills a new generation, replaces `index.json` in one step, and
then removes older generations (`index_writing`). A reader whose generation is gone reads `index.json` again. Only one
process may write at a time; a second one gets an error.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.codes import code_bytes
from deephash.data.array_file import read_array
from deephash.data.trial import try_program
from deephash.indexes import engine_trial
from deephash.indexes.base import Index
from deephash.indexes.build_index import index_class
from deephash.indexes.change_log import replay_log
from deephash.indexes.columns import as_columns, collect_columns
from deephash.io.files import read_json, reading
from deephash.io.item_names import as_names
from deephash.io.npy_file import map_npy
from deephash.io.sealed_files import file_digest
from deephash.validation import InvalidInputError, check_choice, check_count

if TYPE_CHECKING:
    import polars

log = logging.getLogger(__name__)

FORMAT = "deephash index"
VERSION, VERSION_OF_CHANGES = 1, 2
"""Format versions; an index with further columns, ids or a log of changes has the second."""
DESCRIPTION_FILE = "index.json"
CODES_FILE = "codes.npy"
NAMES_FILE = "names.npy"
IDS_FILE = "ids.npy"
COLUMNS_FILE = "columns.parquet"
LOG_FILE = "changes.log"
GENERATION = re.compile(r"generation-[0-9a-f]{16}")
TRY, REBUILD, TRUST = "try", "rebuild", "trust"
"""Treatments of an engine's own file; see `load_index`."""
# Limits of the trial of an engine's file: memory of 1 GiB plus 4 times the size of the files; 30 s plus 1 s per 10 MB.
TRIAL_BYTES, TRIAL_EXPANSION = 1 << 30, 4
TRIAL_SECONDS, TRIAL_BYTES_PER_SECOND = 30, 10_000_000
# Maximal number of saves that may end while an index is read; after more, something else is wrong.
ATTEMPTS = 10


def load_index(folder: str | Path, engine: str = TRY) -> Index:
    """Load the index that `save` wrote into a folder. Codes stay on disk, mapped into memory.

    Codes, names and settings are checked completely. An engine's own file, such as one of FAISS, is a memory image: a
    hostile one can exploit faults of its engine. Therefore the file is first opened and searched in a separate process,
    which finds damage and most hostile files.

    Args:
        folder: the folder that `save` wrote.
        engine: treatment of an engine's own file. "try" opens it in a separate process first. "rebuild" does not read
            it, and builds the index from the codes and names: use it for files from an untrusted source. "trust" opens
            it at once: use it for large files of your own.

    Raises:
        InvalidInputError: missing or damaged files, another format version, or an unknown kind.
    """
    folder = Path(folder)
    check_choice(engine, (TRY, REBUILD, TRUST), "engine")
    for _ in range(ATTEMPTS):
        description = read_description(folder)
        try:
            return read_generation(folder, description, engine)
        except (InvalidInputError, OSError) as error:
            if read_description(folder)["generation"] != description["generation"]:
                continue  # Another save has replaced it.
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"{folder} is incomplete ({error}); restore it or build it again.") from error
    raise InvalidInputError(f"{folder} was replaced {ATTEMPTS} times while it was read; try again.")


def engine_path(folder: str | Path) -> Path:
    """Return the path of the engine's own file or folder in a saved index, to open it with the engine itself.

    The next save into the folder writes another file and removes this one.

    Raises:
        InvalidInputError: the folder contains no index, or its kind has no such file.
    """
    description = read_description(Path(folder))
    name = index_class(description["kind"]).engine_file
    if name is None or name not in description["files"]:
        raise InvalidInputError(f"{folder} is of kind={description['kind']}, which has no engine file.")
    return Path(folder) / str(description["generation"]) / name


def read_description(folder: Path) -> dict[str, Any]:
    """Read `index.json`, and check it.

    Raises:
        InvalidInputError: a missing or damaged file, a file of another program, or another format version.
    """
    path = folder / DESCRIPTION_FILE
    stored = read_json(path, "the description of an index")
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise InvalidInputError(f"{path} does not describe an index; give the folder of one.")
    if stored.get("version") not in (VERSION, VERSION_OF_CHANGES) or isinstance(stored["version"], bool | float):
        raise InvalidInputError(
            f"{path} has format version {stored.get('version')!r}; this deephash reads {VERSION} and "
            f"{VERSION_OF_CHANGES}: upgrade it or build the index again."
        )
    expected: dict[str, type | tuple[type, ...]] = {
        "kind": str,
        "settings": dict,
        "bits": int,
        "size": int,
        "hasher": (str, type(None)),
        "generation": str,
        "files": dict,
        **({"next_id": int, "log": bool} if stored["version"] == VERSION_OF_CHANGES else {}),
    }
    for name, kinds in expected.items():
        if name not in stored:
            raise InvalidInputError(f"{path} lacks {name}; restore it or build the index again.")
        if not isinstance(stored[name], kinds) or (isinstance(stored[name], bool) and kinds is not bool):
            raise InvalidInputError(f"{path} has {name}={stored[name]!r}; restore it or build the index again.")
    if not isinstance(stored.get("columns", []), list):
        raise InvalidInputError(f"{path} has columns={stored['columns']!r}; restore it or build the index again.")
    if not GENERATION.fullmatch(stored["generation"]):
        raise InvalidInputError(f"{path} names {stored['generation']!r}, which is not a generation; restore it.")
    return stored


def check_files(folder: Path) -> None:
    """Raise an error if a file of a saved index is missing; no file is read."""
    description = read_description(folder)
    for name in description["files"]:
        path = folder / description["generation"] / name
        if not path.exists():
            raise InvalidInputError(f"{path} does not exist; restore it or build the index again.")


def read_generation(folder: Path, description: dict[str, Any], treatment: str = TRY) -> Index:
    """Load the index that a description names; `treatment` is the `engine` of `load_index`.

    Raises:
        InvalidInputError: contents that do not match the description.
        OSError: a file that is missing or cannot be read.
    """
    content = folder / description["generation"]
    try:
        kind = index_class(description["kind"])
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{folder} cannot be loaded: {str(error).removesuffix('.')}; install the package that adds it, or upgrade "
            "deephash."
        ) from error
    listed = set(description["files"])
    if not {CODES_FILE} <= listed <= {CODES_FILE, NAMES_FILE, IDS_FILE, COLUMNS_FILE, kind.engine_file}:
        raise InvalidInputError(f"{folder} lists files {sorted(listed)} that kind={description['kind']} does not have.")
    for name, expected in description["files"].items():
        if digest(content / name) != expected:
            raise InvalidInputError(
                f"{content / name} does not match its digest; it was damaged or changed: restore it or build it again."
            )
    unknown = set(description["settings"]) - set(kind.setting_names())
    if unknown:
        raise InvalidInputError(f"{folder} has settings that kind={description['kind']} does not have: {unknown}.")
    codes = map_codes(content / CODES_FILE, description["size"], description["bits"])
    engine = content / kind.engine_file if kind.engine_file in listed and treatment != REBUILD else None
    if engine is not None and kind.trial and treatment == TRY:
        with reading(engine, f"an index of {kind.trial}", "restore it, or load it with engine='rebuild'"):
            try_engine(kind.trial, engine, content / CODES_FILE)
    names = as_names(read_array(content / NAMES_FILE), "names", len(codes)) if NAMES_FILE in listed else None
    extra_columns = tuple(map(str, description.get("columns", ())))
    columns = None
    if kind.keeps_columns and kind.engine_file in listed and treatment == REBUILD:
        columns = collect_columns(names, None, len(codes))
        if extra_columns:
            log.warning("%s: rebuilt from codes and names, without its columns %s.", folder, ", ".join(extra_columns))
            extra_columns = ()
    with reading(folder, f"an index of kind={description['kind']}", "restore it or build it again"):
        index = kind.restore(codes, description["bits"], description["settings"], engine, columns)
    index.hasher, index.folder = description["hasher"], folder
    index.items.set_names(names)
    index.extra_columns = extra_columns
    if IDS_FILE in listed:
        index.items.set_ids(read_ids(content / IDS_FILE, len(codes)), description.get("next_id", 0))
    elif description.get("next_id", len(codes)) != len(codes):
        raise InvalidInputError(f"{folder} has next_id={description['next_id']} and no ids; restore it.")
    if COLUMNS_FILE in listed:
        index.items.columns = read_columns(content / COLUMNS_FILE, len(codes))
    if description.get("log", False):
        index.log_end = replay_log(content / LOG_FILE, description["generation"], index)
    return index


def read_ids(path: Path, size: int) -> NDArray[np.int64]:
    """Read the ids of the items, int64 (size,)."""
    ids = read_array(path)
    if ids.dtype != np.int64 or ids.shape != (size,):
        raise InvalidInputError(f"{path} holds {ids.dtype} {ids.shape}; expected int64 {(size,)}: restore it.")
    return np.array(ids)


def read_columns(path: Path, size: int) -> "polars.DataFrame":
    """Read the further columns of the items."""
    import polars

    with reading(path, "the columns of an index", "restore it or build it again"):
        return as_columns(polars.read_parquet(path), size)


def try_engine(engine: str, path: Path, codes: Path) -> None:
    """Open an engine's own file in a separate process, and search it.

    Raises:
        ValueError: the reason why it cannot be searched.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) + codes.stat().st_size
    try_program(
        engine_trial.__file__,
        engine,
        path,
        codes,
        str(TRIAL_BYTES + TRIAL_EXPANSION * size),
        seconds=TRIAL_SECONDS + size / TRIAL_BYTES_PER_SECOND,
    )


def map_codes(path: Path, size: int, bits: int) -> Tensor:
    """Map codes uint8 (size, ⌈bits/8⌉) into memory, copy-on-write."""
    check_count(bits, "bits")
    with reading(path, "codes", "restore it or build it again"):
        stored = map_npy(path, "c")
    if stored.dtype != np.uint8 or stored.shape != (size, code_bytes(bits)):
        raise InvalidInputError(
            f"{path} holds {stored.dtype} {stored.shape}; expected uint8 {(size, code_bytes(bits))}: restore it."
        )
    return torch.from_numpy(np.asarray(stored))


def digest(path: Path) -> str:
    """Return the SHA-256, in hex, of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    combined = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            combined.update(f"{inner.relative_to(path).as_posix()}:{digest(inner)};".encode())
    return combined.hexdigest()
