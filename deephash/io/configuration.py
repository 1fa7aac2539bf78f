"""YAML files of choices: beside the package in a clone, inside it in an installed wheel."""

from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent


def find_configuration_folder() -> str:
    """Return the folder of `train.yaml` and of the groups of choices.

    Raises:
        RuntimeError: the installation has no such folder.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise RuntimeError(f"deephash in {PACKAGE} lacks its configuration files; install it again.")


def list_choices(group: str) -> dict[str, Path]:
    """Return the YAML files of a group, such as method, by their stems."""
    return {path.stem: path for path in (Path(find_configuration_folder()) / group).glob("*.yaml")}


def read_choice(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings of a choice without references to other groups, and its choices of other groups.

    Settings of the files that its defaults list, such as `shared/deep`, are included.
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.load(file)
    settings: dict[str, Any] = {}
    other_groups: dict[str, str] = {}
    for entry in content.pop("defaults", []):
        if isinstance(entry, str):
            # An entry such as /supervision/label@_here_ starts from the folder of all groups.
            start = Path(find_configuration_folder()) if entry.startswith("/") else file.parent
            name = entry.lstrip("/").partition("@")[0]
            included, groups = ({}, {}) if entry == "_self_" else read_choice(start / f"{name}.yaml")
            settings, other_groups = {**settings, **included}, {**other_groups, **groups}
        else:
            other_groups |= {str(group).removeprefix("override /"): name for group, name in entry.items()}
    merged: Any = OmegaConf.to_container(OmegaConf.merge(settings, content), resolve=False)
    return _drop_references(merged), other_groups


def _drop_references(settings: Any) -> Any:
    """Return settings without values that are interpolations."""
    if isinstance(settings, list):
        return [_drop_references(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    plain = {key: value for key, value in settings.items() if not (isinstance(value, str) and value.startswith("${"))}
    return {key: _drop_references(value) for key, value in plain.items()}
