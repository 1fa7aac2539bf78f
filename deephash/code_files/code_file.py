"""A file of packed codes with its ids, and the description beside it that names the hasher of the codes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.codes import check_codes
from deephash.data.array_file import read_array
from deephash.io.files import format_missing_path, read_json
from deephash.io.item_names import as_names
from deephash.ranking.distance import Distance
from deephash.validation import InvalidInputError, check_choice

FORMAT = "deephash codes"
VERSION = 1
ENDINGS = (".npy", ".parquet")


@dataclass(frozen=True)
class CodePaths:
    """Paths of a file of codes and of the files beside it.

    Args:
        codes: uint8 `.npy` of the codes, or `.parquet` with the columns id and code.
    """

    codes: Path

    def __post_init__(self) -> None:
        check_choice(self.codes.suffix, ENDINGS, f"the ending of {self.codes.name}")

    @property
    def ids(self) -> Path:
        """Ids of the codes in an `.npy`; a Parquet file contains the ids itself."""
        return self.codes.with_suffix(".ids.npy")

    @property
    def labels(self) -> Path:
        """Labels of the codes, int64 (n,) or bool (n, c), if there are any."""
        return self.codes.with_suffix(".labels.npy")

    @property
    def neighbours(self) -> Path:
        """Database rows that are relevant to each query, as offsets and ids, if there are any."""
        return self.codes.with_suffix(".neighbours.npz")

    @property
    def description(self) -> Path:
        """Description of the codes; it is written last, so codes without it are unfinished."""
        return self.codes.with_suffix(".json")

    @property
    def bad(self) -> Path:
        """Rows that could not be encoded, with reasons."""
        return self.codes.with_suffix(".bad.json")

    @property
    def all(self) -> tuple[Path, ...]:
        """Files that an encoding writes."""
        ids = (self.ids,) if self.codes.suffix == ".npy" else ()
        return (self.codes, *ids, self.description, self.bad)

    @property
    def unfinished(self) -> Path:
        """Folder of an unfinished encoding."""
        return self.codes.with_name(self.codes.name + ".encoding")


@dataclass(frozen=True)
class CodeFile:
    """Codes read from a file.

    Args:
        codes: packed uint8 (n, ⌈b/8⌉).
        ids: int64 or strings (n,).
        description: content of the description beside the file.
    """

    codes: Tensor
    ids: np.ndarray
    description: Mapping[str, Any]

    @property
    def bits(self) -> int:
        """Code length b."""
        return int(self.description["bits"])

    @property
    def hasher(self) -> str:
        """Identity of the hasher that made the codes."""
        return str(self.description["hasher"])


def describe_codes(
    paths: CodePaths, rows: int, skipped: int, hasher: str, distance: Distance, bits: int, view: str, source: Any
) -> dict[str, Any]:
    """Return the description of a file of codes.

    Args:
        paths: paths of the file.
        rows: number of codes n.
        skipped: number of rows of the source without a code.
        hasher: identity of the hasher.
        distance: distance that ranks the codes.
        bits: code length b.
        view: view of a hasher of two views; empty for a hasher of one.
        source: fingerprint of the source.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "file": paths.codes.name,
        "rows": rows,
        "skipped": skipped,
        "bits": bits,
        "distance": {"name": type(distance).__name__, **asdict(distance)},
        "hasher": hasher,
        "view": view,
        "source": source,
    }


def read_description(path: str | Path) -> dict[str, Any]:
    """Read the description of a file of codes, and check it.

    Raises:
        InvalidInputError: a missing or damaged description, or one of another file.
    """
    paths = CodePaths(Path(path))
    if not paths.codes.is_file():
        hint = f"; its encoding is unfinished: run it again ({paths.unfinished})" if paths.unfinished.is_dir() else ""
        raise InvalidInputError(f"{format_missing_path(path)} does not exist; give a file of deephash encode{hint}.")
    description: dict[str, Any] = read_json(paths.description, f"the description of {paths.codes.name}")
    is_known = isinstance(description, dict) and description.get("format") == FORMAT
    if not is_known or description.get("version") != VERSION:
        raise InvalidInputError(f"{paths.description} does not describe codes; encode again.")
    if description.get("file") != paths.codes.name:
        raise InvalidInputError(
            f"{paths.description} describes {description.get('file')!r:.200}, not {paths.codes.name}."
        )
    is_complete = all(isinstance(description.get(name), int) for name in ("rows", "bits", "skipped"))
    if not is_complete or not isinstance(description.get("hasher"), str):
        raise InvalidInputError(f"{paths.description} is damaged; restore it or encode again.")
    return description


def read_codes(path: str | Path) -> CodeFile:
    """Read codes, their ids and their description.

    Args:
        path: `.npy` or `.parquet`, as `deephash encode` writes.

    Raises:
        InvalidInputError: a missing or damaged file, or one that does not match its description.
    """
    paths = CodePaths(Path(path))
    description = read_description(path)
    if paths.codes.suffix == ".npy":
        codes, ids = (np.array(read_array(part)) for part in (paths.codes, paths.ids))
    else:
        codes, ids = (np.array(read_array(paths.codes, column)) for column in ("code", "id"))
    if codes.dtype != np.uint8:
        raise InvalidInputError(f"{paths.codes} holds codes of dtype {codes.dtype}, not packed uint8; encode again.")
    ids = as_names(ids, f"ids of {path}")
    tensor = torch.from_numpy(codes)
    check_codes(tensor, description["bits"], f"codes of {path}")
    if not len(codes) == len(ids) == description["rows"]:
        raise InvalidInputError(
            f"{path} holds {len(codes)} codes and {len(ids)} ids; its description says {description['rows']}: encode "
            "again."
        )
    return CodeFile(tensor, ids, description)
