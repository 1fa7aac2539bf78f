"""Saved indexes: a folder that shows a reader a whole index, old or new, while another is written.

`index.json` names a generation, the subfolder that holds `codes.npy`, the items' names and the engine's own file. A
save fills a new generation, puts `index.json` in place in one step, then removes the older ones; a reader that finds
its generation gone reads `index.json` again. One writer at a time: a second one is refused.
"""

import hashlib
import json
import logging
import re
import secrets
import shutil
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
from deephash.indexes.build_index import checked_names, index_class
from deephash.indexes.columns import kept_columns
from deephash.io.files import flush, read_json, reading, reason_of, write_json, writing
from deephash.io.npy_file import map_npy, save_npy
from deephash.io.ownership import LOCK_FILE, only_writer
from deephash.validation import InvalidInputError, StorageError, check_choice, check_count

log = logging.getLogger(__name__)

FORMAT = "deephash index"
VERSION = 1
DESCRIPTION_FILE = "index.json"
CODES_FILE = "codes.npy"
NAMES_FILE = "names.npy"
GENERATION = re.compile(r"generation-[0-9a-f]{16}")
# What a killed save may have left where no index is yet.
LEFTOVER = re.compile(rf"{GENERATION.pattern}|{re.escape(LOCK_FILE)}|index\.json\.[0-9a-f]{{8}}\.partial")
TRY, REBUILD, TRUST = "try", "rebuild", "trust"
"""What becomes of an engine's own file."""
# Memory and time that the trial of an engine's file may take.
TRIAL_BYTES, TRIAL_EXPANSION = 1 << 30, 4
TRIAL_SECONDS, TRIAL_BYTES_A_SECOND = 30, 10_000_000
# Saves that may end while one is read; more in a row mean that something else is wrong.
ATTEMPTS = 10


def write(index: Index, folder: Path) -> None:
    """Write an index into a folder, made where missing; what was there stays whole until the new one is.

    Raises:
        InvalidInputError: a folder that holds other files or that another process writes to, or a setting that JSON
            cannot hold.
        StorageError: a folder that cannot be written to.
    """
    generation = f"generation-{secrets.token_hex(8)}"
    description = described(index, generation)
    check_own_folder(folder)
    with only_writer(folder, str(folder)):
        try:
            fill(index, folder / generation)
            description["files"] = {path.name: digest(path) for path in sorted((folder / generation).iterdir())}
            write_json(folder / DESCRIPTION_FILE, description)
        except BaseException:
            # A description that is in place, and only not surely on the disk yet, keeps what it names.
            if not is_current(folder, generation):
                shutil.rmtree(folder / generation, ignore_errors=True)
            with writing(folder, "an index that was there is unchanged"):
                raise
        for path in folder.iterdir():
            if GENERATION.fullmatch(path.name) and path.name != generation:
                shutil.rmtree(path, ignore_errors=True)


def is_current(folder: Path, generation: str) -> bool:
    """Whether the folder's description names a generation."""
    try:
        return bool(read_description(folder)["generation"] == generation)
    except InvalidInputError:
        return False


def described(index: Index, generation: str) -> dict[str, Any]:
    """What `index.json` holds of an index, beside the digests of its files.

    Raises:
        InvalidInputError: a setting that JSON cannot hold.
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
        **({"columns": list(index.further)} if index.further else {}),
    }
    try:
        json.dumps(description, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"a setting of kind={index.kind} is not JSON-serialisable ({error}); such an index cannot be saved."
        ) from error
    return description


def check_own_folder(folder: Path) -> None:
    """Raise an error for a folder in which something else lies, so that a mistyped path cannot mix files.

    Raises:
        InvalidInputError: naming the folder, or the description of something else in it.
    """
    if not folder.exists():
        return
    if (folder / DESCRIPTION_FILE).exists():
        stored = read_json(
            folder / DESCRIPTION_FILE, "the description of an index", "give another folder, or remove it"
        )
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise InvalidInputError(
                f"{folder / DESCRIPTION_FILE} is of something else than an index; give a folder of the index's own."
            )
        return
    if not folder.is_dir() or any(not LEFTOVER.fullmatch(path.name) for path in folder.iterdir()):
        raise InvalidInputError(f"{folder} holds something else than an index; give a folder of the index's own.")


def fill(index: Index, content: Path) -> None:
    """Write the codes and the engine's own file into a new folder, through to the disk."""
    content.mkdir(parents=True)
    save_npy(content / CODES_FILE, index.codes.numpy())
    if index.names is not None:
        save_npy(content / NAMES_FILE, index.names)
    if index.engine_file is not None:
        try:
            index._write(content / index.engine_file)
        except Exception as error:  # Each engine has errors of its own for a disk that refuses.
            raise StorageError(
                f"{content / index.engine_file} cannot be written ({reason_of(error)}); an index that was there is "
                "unchanged: free space or choose another folder."
            ) from error
    for path in (*content.rglob("*"), content):
        flush(path)


def load_index(folder: str | Path, engine: str = TRY) -> Index:
    """The index that `save` wrote into a folder. Codes stay on disk, mapped into memory.

    Codes, names and settings are checked in full. A file of an engine's own, as of FAISS or USearch, is a program's
    memory: a hostile one can do what its engine's faults let it. So it is opened and searched in a process of its own
    first, which finds damage and most malice.

    Args:
        folder: where `save` wrote.
        engine: what becomes of an engine's own file: "try" opens it in a process of its own first, "rebuild" leaves it
            unread and builds the index from the codes and names, for files of strangers, and "trust" opens it at once,
            for large files of one's own.

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
                continue  # A save replaced it in the meantime.
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"{folder} is not whole ({error}); restore it or build it again.") from error
    raise InvalidInputError(f"{folder} was replaced {ATTEMPTS} times while it was read; try again.")


def engine_path(folder: str | Path) -> Path:
    """The engine's own file or folder in a saved index, as DuckDB's database, to open with the engine itself.

    It belongs to this save: the next one writes another and removes it.

    Raises:
        InvalidInputError: no index there, or a kind without such a file.
    """
    description = read_description(Path(folder))
    name = index_class(description["kind"]).engine_file
    if name is None or name not in description["files"]:
        raise InvalidInputError(f"{folder} is of kind={description['kind']}, which writes no file of its own.")
    return Path(folder) / str(description["generation"]) / name


def read_description(folder: Path) -> dict[str, Any]:
    """What `index.json` holds.

    Raises:
        InvalidInputError: a missing, damaged or foreign file, or another format version.
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
        raise InvalidInputError(f"{path} names {stored['generation']!r}, which is no generation; restore it.")
    return stored


def check_files(folder: Path) -> None:
    """Raise an error for a saved index of which a file is missing; none is read for it.

    Raises:
        InvalidInputError: naming the file.
    """
    description = read_description(folder)
    for name in description["files"]:
        path = folder / description["generation"] / name
        if not path.exists():
            raise InvalidInputError(f"{path} does not exist; restore it or build the index again.")


def read_generation(folder: Path, description: dict[str, Any], treatment: str = TRY) -> Index:
    """The index that a description names.

    Args:
        folder: of the index.
        description: as read.
        treatment: of an engine's own file, as `load_index` takes.

    Raises:
        InvalidInputError: contents that do not match the description.
        OSError: a file that is not there or cannot be read.
    """
    content = folder / description["generation"]
    found = index_class(description["kind"])
    listed = set(description["files"])
    if not {CODES_FILE} <= listed <= {CODES_FILE, NAMES_FILE, found.engine_file}:
        raise InvalidInputError(f"{folder} lists files {sorted(listed)} that kind={description['kind']} does not have.")
    for name, expected in description["files"].items():
        if digest(content / name) != expected:
            raise InvalidInputError(
                f"{content / name} does not match its digest; it was damaged or changed: restore it or build it again."
            )
    unknown = set(description["settings"]) - set(found.setting_names())
    if unknown:
        raise InvalidInputError(f"{folder} has settings that kind={description['kind']} does not take: {unknown}.")
    codes = read_codes(content / CODES_FILE, description["size"], description["bits"])
    engine = content / found.engine_file if found.engine_file in listed and treatment != REBUILD else None
    if engine is not None and found.trial and treatment == TRY:
        with reading(engine, f"an index of {found.trial}", "restore it, or load it with engine='rebuild'"):
            try_engine(found.trial, engine, content / CODES_FILE)
    names = checked_names(read_array(content / NAMES_FILE), len(codes)) if NAMES_FILE in listed else None
    further = tuple(map(str, description.get("columns", ())))
    columns = None
    if found.keeps_columns and found.engine_file in listed and treatment == REBUILD:
        columns = kept_columns(names, None, len(codes))
        if further:
            log.warning("%s: rebuilt from codes and names, without its columns %s.", folder, ", ".join(further))
            further = ()
    with reading(folder, f"an index of kind={description['kind']}", "restore it or build it again"):
        index = found.restored(codes, description["bits"], description["settings"], engine, columns)
    index.hasher, index.folder, index.names, index.further = description["hasher"], folder, names, further
    return index


def try_engine(engine: str, path: Path, codes: Path) -> None:
    """Open an engine's own file in a process of its own, and search it.

    Raises:
        ValueError: why it cannot be searched.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) + codes.stat().st_size
    try_program(
        engine_trial.__file__,
        engine,
        path,
        codes,
        str(TRIAL_BYTES + TRIAL_EXPANSION * size),
        seconds=TRIAL_SECONDS + size / TRIAL_BYTES_A_SECOND,
    )


def read_codes(path: Path, size: int, bits: int) -> Tensor:
    """Codes uint8 (size, ⌈bits/8⌉), mapped into memory; what is changed there never reaches the file.

    Raises:
        InvalidInputError: no NumPy file, or one of another dtype or shape.
    """
    check_count(bits, "bits")
    with reading(path, "codes", "restore it or build it again"):
        stored = map_npy(path, "c")
    if stored.dtype != np.uint8 or stored.shape != (size, code_bytes(bits)):
        raise InvalidInputError(
            f"{path} holds {stored.dtype} {stored.shape}; expected uint8 {(size, code_bytes(bits))}: restore it."
        )
    return torch.from_numpy(np.asarray(stored))


def digest(path: Path) -> str:
    """SHA-256, in hex, of a file's bytes, or of the names and bytes of all files in a folder."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    whole = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            whole.update(f"{inner.relative_to(path).as_posix()}:{digest(inner)};".encode())
    return whole.hexdigest()
