"""Which settings of a run are paths, and their absolute form: a run names the same files wherever it is read from."""

import inspect
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from deephash.validation import InvalidInputError

IS_PATH, IS_PATH_OR_NAME = "path", "path or name"

FilePath = Annotated[str, IS_PATH]
"""A constructor's parameter that is the path of a file or folder. One named `path`, or of `pathlib.Path`, is too."""

PathOrName = Annotated[str, IS_PATH_OR_NAME]
"""A constructor's parameter that is a path where one of that name exists, and else the name of something published."""


def with_absolute_paths(config: DictConfig) -> DictConfig:
    """A config whose path settings start from the root of the file system.

    Settings are paths where the constructor of their `_target_` annotates them as `FilePath` or `pathlib.Path`, or
    calls them `path`. Addresses with a scheme, as s3://BUCKET, and paths in the home folder, as ~/x, stay as they are.

    Args:
        config: a run's; not changed. Relative paths start from the working folder.
    """
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(changed, DictConfig)
    for key, value in path_settings(changed):
        if isinstance(value, str):
            OmegaConf.update(changed, key, absolute(value), merge=False)
        else:
            OmegaConf.update(changed, key, [absolute(each) for each in value], merge=False)
    return changed


def path_settings(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """The path settings of a config by dotted name: words, or lists of words.

    Raises:
        InvalidInputError: a number in place of a path, since 007 is read as 7.
    """
    for key, section in _sections(OmegaConf.to_container(config, resolve=True), ""):
        kinds = _path_parameters(section["_target_"])
        for name, value in section.items():
            if kinds.get(name) == IS_PATH and isinstance(value, int | float):
                where = f"{key}.{name}" if key else name
                raise InvalidInputError(
                    f"{where}={value} is a number, and a path was expected; write it as words: {where}=./{value}"
                )
            words = [value] if isinstance(value, str) else value
            if name not in kinds or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                continue
            if kinds[name] == IS_PATH or all(Path(word).exists() for word in words):
                yield f"{key}.{name}" if key else name, value


def paths_in_words(config: DictConfig, group: str) -> str:
    """The paths of a group's settings, for messages: "data.features=/home/me/x.npy"; empty where it has none.

    The folder of computed features is left out, since it holds nothing that a user gave.
    """
    settings = [(name, value) for name, value in path_settings(config) if name != "cache"]
    return ", ".join(f"{group}.{name}={value}" for name, value in settings)


def absolute(path: str) -> str:
    """A path from the root of the file system; an address, a path in the home folder and nothing stay as they are."""
    return path if not path or "://" in path or path.startswith("~") else str(Path(path).absolute())


def _sections(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Mappings with a `_target_`, with their dotted names; lists hold none with paths."""
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("_target_"), str):
        yield key, value
    for name, inner in value.items():
        yield from _sections(inner, f"{key}.{name}" if key else str(name))


def _path_parameters(target: str) -> dict[str, str]:
    """Parameters that are paths, with their kind; none of a target that cannot be imported, which building says."""
    try:
        found = get_object(target)
        function = inspect.getattr_static(found, "__init__") if isinstance(found, type) else found
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # an import runs the target's module, which may fail in any way
        return {}
    kinds = {name: _kind(hint) for name, hint in hints.items()}
    return {name: IS_PATH if name == "path" else kind for name, kind in kinds.items() if kind or name == "path"}


def _kind(hint: Any) -> str:
    """Which kind of path an annotation speaks of, at any depth; empty for none."""
    if isinstance(hint, type) and issubclass(hint, Path):
        return IS_PATH
    for word in getattr(hint, "__metadata__", ()):
        if word in (IS_PATH, IS_PATH_OR_NAME):
            return str(word)
    return next((kind for inner in typing.get_args(hint) if (kind := _kind(inner))), "")
