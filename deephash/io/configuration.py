"""The YAML files of choices: beside the package in a clone, inside it where a wheel was installed."""

from pathlib import Path
from typing import Any

from deephash.validation import check_choice

PACKAGE = Path(__file__).resolve().parent.parent


def configuration_folder() -> str:
    """The folder of `train.yaml` and the groups of choices.

    Raises:
        RuntimeError: an installation without them.
    """
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise RuntimeError(f"deephash in {PACKAGE} lacks its configuration files; install it again.")


def read_choice(group: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings of one choice, without those that other groups decide.

    Args:
        group: a folder of YAML files, as method.
        name: stem of a file in it.

    Returns:
        The settings as plain values, less those that refer to other groups, and the choices that it makes of other
        groups.

    Raises:
        InvalidInputError: no such choice.
    """
    from omegaconf import OmegaConf

    files = {path.stem: path for path in (Path(configuration_folder()) / group).glob("*.yaml")}
    check_choice(name, files, group)
    stored: Any = OmegaConf.to_container(OmegaConf.load(files[name]), resolve=False)
    defaults = stored.pop("defaults", [])
    chosen = {key.removeprefix("override /"): value for entry in defaults for key, value in entry.items()}
    return _without_references(stored), chosen


def _without_references(settings: Any) -> Any:
    """Settings less the values that are interpolations."""
    if isinstance(settings, list):
        return [_without_references(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    kept = {key: value for key, value in settings.items() if not (isinstance(value, str) and value.startswith("${"))}
    return {key: _without_references(value) for key, value in kept.items()}
