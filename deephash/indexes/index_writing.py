"""Writing of saved indexes: a new generation is complete before the index names it."""

import json
import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from deephash.indexes.base import Index
from deephash.indexes.change_log import create_log
from deephash.indexes.index_folder import (
    CODES_FILE,
    COLUMNS_FILE,
    DESCRIPTION_FILE,
    FORMAT,
    GENERATION,
    IDS_FILE,
    LOG_FILE,
    NAMES_FILE,
    VERSION,
    VERSION_OF_CHANGES,
    digest,
    read_description,
)
from deephash.io.files import describe_error, flush, read_json, write_json, writing
from deephash.io.npy_file import save_npy
from deephash.io.ownership import LOCK_FILE, lock_for_writing
from deephash.validation import InvalidInputError, StorageError

# Files that a killed save may leave in a new folder.
LEFTOVER = re.compile(rf"{GENERATION.pattern}|{re.escape(LOCK_FILE)}|index\.json\.[0-9a-f]{{8}}\.partial")


def write_index(index: Index, folder: Path) -> None:
    """Write an index into a folder; an earlier index stays intact until the new one is complete.

    Raises:
        InvalidInputError: a folder with other files or one that another process writes to, an index without items, or a
            setting that is not JSON-serialisable.
        StorageError: a folder that cannot be written to.
    """
    if index.items.alive is not None:
        index.rebuild()
    describe_index(index, "", has_log=False)  # Raise an error before a lock.
    check_own_folder(folder)
    with lock_for_writing(folder, str(folder)):
        write_generation(index, folder, has_log=False)


def write_generation(index: Index, folder: Path, *, has_log: bool) -> str:
    """Write an index without removed rows as a new generation of a locked folder, and return the generation.

    Args:
        index: the index.
        folder: its folder.
        has_log: whether to start a log of changes beside it.
    """
    generation = new_generation()
    try:
        write_json(folder / DESCRIPTION_FILE, write_content(index, folder, generation, has_log=has_log))
    except BaseException:
        # If the description is in place but was not flushed, keep the generation that it names.
        if not is_current(folder, generation):
            shutil.rmtree(folder / generation, ignore_errors=True)
        with writing(folder, "an earlier index is unchanged"):
            raise
    remove_generations(folder, generation)
    return generation


def new_generation() -> str:
    """Return a name that no other generation has."""
    return f"generation-{secrets.token_hex(8)}"


def write_content(index: Index, folder: Path, generation: str, *, has_log: bool) -> dict[str, Any]:
    """Write and flush the files of a generation, and return the description that `index.json` gets to name it."""
    description = describe_index(index, generation, has_log=has_log)
    write_files(index, folder / generation)
    description["files"] = {path.name: digest(path) for path in sorted((folder / generation).iterdir())}
    if has_log:
        create_log(folder / generation / LOG_FILE, generation, index.bits)
    return description


def remove_generations(folder: Path, current: str) -> None:
    """Remove all generations but the current one."""
    remove_subfolders(folder, GENERATION, keep=(current,))


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


def describe_index(index: Index, generation: str, *, has_log: bool) -> dict[str, Any]:
    """Return the content of `index.json`, without the digests of the files.

    Raises:
        InvalidInputError: a setting that is not JSON-serialisable.
    """
    ids = index.items.ids
    changed = has_log or index.items.columns is not None or len(ids) != index.items.next_id
    description = {
        "format": FORMAT,
        "version": VERSION_OF_CHANGES if changed else VERSION,
        "kind": index.kind,
        "settings": index.settings,
        "bits": index.bits,
        "size": index.size,
        "hasher": index.hasher,
        "generation": generation,
        **({"next_id": index.items.next_id, "log": has_log} if changed else {}),
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
    if index.items.next_id != index.size:
        save_npy(content / IDS_FILE, index.items.ids)
    if index.items.columns is not None:
        with (content / COLUMNS_FILE).open("wb") as file:
            index.items.columns.write_parquet(file)
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
