"""Path settings of a run in absolute form, so that a run names the same files from every working folder."""

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
"""Annotation of a parameter for a path; parameters named `path` or of type `pathlib.Path` do not need it."""

PathOrName = Annotated[str, IS_PATH_OR_NAME]
"""Annotation of a parameter for a path, if the path exists, or otherwise the name of a published model."""


def make_paths_absolute(config: DictConfig) -> DictConfig:
    """Return a copy of a run's config with absolute paths; relative ones start from the working folder.

    Settings are paths if the constructor of their `_target_` annotates them as `FilePath` or `pathlib.Path`, or names
    them `path`. Addresses with a scheme, such as s3://BUCKET, and paths in the home folder, such as ~/x, do not change.
    """
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(changed, DictConfig)
    for key, value in find_path_settings(changed):
        if isinstance(value, str):
            OmegaConf.update(changed, key, make_absolute(value), merge=False)
        else:
            OmegaConf.update(changed, key, [make_absolute(each) for each in value], merge=False)
    return changed


def find_path_settings(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yield the path settings of a config by dotted name: strings, or lists of strings.

    Raises:
        InvalidInputError: a number in place of a path, since 007 is parsed as 7.
    """
    for key, section in _walk_sections(OmegaConf.to_container(config, resolve=True), ""):
        kinds = _find_path_parameters(section["_target_"])
        for name, value in section.items():
            if kinds.get(name) == IS_PATH and isinstance(value, int | float):
                where = f"{key}.{name}" if key else name
                raise InvalidInputError(
                    f"{where}={value} is a number, and a path was expected; write {where}=./{value}"
                )
            words = [value] if isinstance(value, str) else value
            if name not in kinds or not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                continue
            if kinds[name] == IS_PATH or all(Path(word).exists() for word in words):
                yield f"{key}.{name}" if key else name, value


def describe_paths(config: DictConfig, group: str) -> str:
    """Describe the paths of a group, such as "data.features=/home/me/x.npy"; empty without any.

    The folder of computed features is left out, since the user did not provide its contents.
    """
    settings = [(name, value) for name, value in find_path_settings(config) if name != "cache"]
    return ", ".join(f"{group}.{name}={value}" for name, value in settings)


def make_absolute(path: str) -> str:
    """Make a path absolute; addresses, paths in the home folder and the empty path do not change."""
    return path if not path or "://" in path or path.startswith("~") else str(Path(path).absolute())


def _walk_sections(value: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield mappings with a `_target_` by dotted name; those in lists have no paths."""
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("_target_"), str):
        yield key, value
    for name, inner in value.items():
        yield from _walk_sections(inner, f"{key}.{name}" if key else str(name))


def _find_path_parameters(target: str) -> dict[str, str]:
    """Return the path parameters of a target with their kind; none if it cannot be imported, which `build` reports."""
    try:
        found = get_object(target)
        function = inspect.getattr_static(found, "__init__") if isinstance(found, type) else found
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # importing the target's module can raise any error
        return {}
    kinds = {name: _find_kind(hint) for name, hint in hints.items()}
    return {name: IS_PATH if name == "path" else kind for name, kind in kinds.items() if kind or name == "path"}


def _find_kind(hint: Any) -> str:
    """Return the kind of path in an annotation, at any depth; empty for none."""
    if isinstance(hint, type) and issubclass(hint, Path):
        return IS_PATH
    for word in getattr(hint, "__metadata__", ()):
        if word in (IS_PATH, IS_PATH_OR_NAME):
            return str(word)
    return next((kind for inner in typing.get_args(hint) if (kind := _find_kind(inner))), "")
