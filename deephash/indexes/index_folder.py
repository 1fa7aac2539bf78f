"""Saved indexes: folders in which a reader always finds a complete index, even while another one is written.

`index.json` names a generation, the subfolder that contains `codes.npy`, the items' names and the engine's own file. A
save fills a new generation, replaces `index.json` in one step, and then removes older generations. A reader whose
generation is gone reads `index.json` again. Only one process may write at a time; a second one gets an error.
"""

import hashlib
import json
import logging
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.codes import code_bytes
from deephash.data.array_file import read_array
from deephash.data.trial import try_program
from deephash.indexes import engine_trial
from deephash.indexes.base import Index
from deephash.indexes.build_index import index_class
from deephash.indexes.columns import collect_columns
from deephash.io.files import describe_error, flush, read_json, reading, write_json, writing
from deephash.io.item_names import as_names
from deephash.io.npy_file import map_npy, save_npy
from deephash.io.ownership import LOCK_FILE, lock_for_writing
from deephash.io.sealed_files import file_digest
from deephash.validation import InvalidInputError, StorageError, check_choice, check_count

log = logging.getLogger(__name__)

FORMAT = "deephash index"
VERSION = 1
DESCRIPTION_FILE = "index.json"
CODES_FILE = "codes.npy"
NAMES_FILE = "names.npy"
GENERATION = re.compile(r"generation-[0-9a-f]{16}")
# Files that a killed save may leave in a new folder.
LEFTOVER = re.compile(rf"{GENERATION.pattern}|{re.escape(LOCK_FILE)}|index\.json\.[0-9a-f]{{8}}\.partial")
TRY, REBUILD, TRUST = "try", "rebuild", "trust"
"""Treatments of an engine's own file; see `load_index`."""
# Limits of the trial of an engine's file: memory of 1 GiB plus 4 times the size of the files; 30 s plus 1 s per 10 MB.
TRIAL_BYTES, TRIAL_EXPANSION = 1 << 30, 4
TRIAL_SECONDS, TRIAL_BYTES_PER_SECOND = 30, 10_000_000
# Maximal number of saves that may end while an index is read; after more, something else is wrong.
ATTEMPTS = 10


def write_index(index: Index, folder: Path) -> None:
    """Write an index into a folder; an earlier index stays intact until the new one is complete.

    Raises:
        InvalidInputError: a folder with other files or one that another process writes to, or a setting that is not
            JSON-serialisable.
        StorageError: a folder that cannot be written to.
    """
    generation = f"generation-{secrets.token_hex(8)}"
    description = describe_index(index, generation)
    check_own_folder(folder)
    with lock_for_writing(folder, str(folder)):
        try:
            write_files(index, folder / generation)
            description["files"] = {path.name: digest(path) for path in sorted((folder / generation).iterdir())}
            write_json(folder / DESCRIPTION_FILE, description)
        except BaseException:
            # If the description is in place but was not flushed, keep the generation that it names.
            if not is_current(folder, generation):
                shutil.rmtree(folder / generation, ignore_errors=True)
            with writing(folder, "an earlier index is unchanged"):
                raise
        remove_subfolders(folder, GENERATION, keep=(generation,))


def is_current(folder: Path, generation: str) -> bool:
    """Return whether the folder's description names a generation."""
    try:
        return bool(read_description(folder)["generation"] == generation)
    except InvalidInputError:
        return False


def remove_subfolders(folder: Path, pattern: re.Pattern[str], keep: Collection[object] = ()) -> None:
    """Remove subfolders of earlier or killed writers, by the pattern of their names."""
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def describe_index(index: Index, generation: str) -> dict[str, Any]:
    """Return the content of `index.json`, without the digests of the files.

    Raises:
        InvalidInputError: a setting that is not JSON-serialisable.
    """
    description = {
        "format": FORMAT,
        "version": VERSION,
        "kind": index.kind,
        "settings": index.settings,
        "bits": index.bits,
        "size": index.size,
        "hasher": index.hasher,
        "generation": generation,
        **({"columns": list(index.extra_columns)} if index.extra_columns else {}),
    }
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"a setting of kind={index.kind} is not JSON-serialisable ({error}); the index cannot be saved."
        ) from error
    return description


def check_own_folder(
    folder: Path,
    description: str = DESCRIPTION_FILE,
    expected: str = FORMAT,
    leftover: re.Pattern[str] = LEFTOVER,
    content: str = "an index",
) -> None:
    """Raise an error if a folder contains other files, so that a mistyped path cannot mix files.

    Args:
        folder: the folder to write into.
        description: name of the description file that an earlier save left.
        expected: format that this file must name.
        leftover: names of files that a killed save may have left before it wrote a description.
        content: name of the saved object, for messages.

    Raises:
        InvalidInputError: another file with the name of the description, or other files.
    """
    if not folder.exists():
        return
    path = folder / description
    if path.exists():
        stored = read_json(path, f"the description of {content}", "give another folder, or remove it")
        if not isinstance(stored, dict) or stored.get("format") != expected:
            raise InvalidInputError(f"{path} does not describe {content}; give another folder.")
    elif not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file and does not contain {content}; give a folder.")
    elif any(not leftover.fullmatch(file.name) for file in folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty and does not contain {content}; give another folder.")


def write_files(index: Index, content: Path) -> None:
    """Write the codes, the names and the engine's own file into a new folder, and flush them."""
    content.mkdir(parents=True)
    save_npy(content / CODES_FILE, index.codes.numpy())
    if index.names is not None:
        save_npy(content / NAMES_FILE, index.names)
    if index.engine_file is not None:
        try:
            index._write(content / index.engine_file)
        except Exception as error:  # Each engine has its own exceptions for a full disk.
            raise StorageError(
                f"{content / index.engine_file} cannot be written ({describe_error(error)}); an earlier index is "
                "unchanged: free space or choose another folder."
            ) from error
    for path in (*content.rglob("*"), content):
        flush(path)


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
    if stored.get("version") != VERSION:
        raise InvalidInputError(
            f"{path} has format version {stored.get('version')!r}; this deephash reads {VERSION}: upgrade it or build "
            "the index again."
        )
    expected: dict[str, type | tuple[type, ...]] = {
        "kind": str,
        "settings": dict,
        "bits": int,
        "size": int,
        "hasher": (str, type(None)),
        "generation": str,
        "files": dict,
    }
    for name, kinds in expected.items():
        if name not in stored:
            raise InvalidInputError(f"{path} lacks {name}; restore it or build the index again.")
        if not isinstance(stored[name], kinds) or isinstance(stored[name], bool):
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
    if not {CODES_FILE} <= listed <= {CODES_FILE, NAMES_FILE, kind.engine_file}:
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
    index.names, index.extra_columns = names, extra_columns
    return index


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
