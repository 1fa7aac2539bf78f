"""Settings of a sweep over choices that the sweep's own config does not have."""

import io
from contextlib import redirect_stderr

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deephash.io.configuration import find_configuration_folder


def defer_settings(arguments: list[str], program: str = "train") -> list[str]:
    """Return the arguments of a sweep with settings that only its jobs have as sweeps over one value.

    Hydra composes a config of the sweep before those of its jobs, without the swept overrides. So `-m
    method=csq,dpsh train.epochs=40` would fail: method=itq, the default, has no epochs. Hydra leaves out
    `train.epochs=choice(40)` there, and each job checks it.

    Args:
        arguments: the command line of a sweep.
        program: train or evaluate.
    """
    try:
        parsed = {text: OverridesParser.create().parse_override(text) for text in arguments if is_override(text)}
        if not any(override.is_sweep_override() for override in parsed.values()):
            return arguments
        settings = {text for text, override in parsed.items() if is_setting(override)}
        with initialize_config_dir(find_configuration_folder(), version_base="1.3"), redirect_stderr(io.StringIO()):
            choices = [
                text
                for text, override in parsed.items()
                if text not in settings and not override.is_sweep_override() and not override.is_hydra_override()
            ]
            config = compose(program, choices)
    except (HydraException, OmegaConfBaseException, ValueError):
        return arguments  # Hydra explains what is wrong.
    missing = {text for text in settings if not has_key(config, text.partition("=")[0])}
    return [defer(text) if text in missing else text for text in arguments]


def is_override(text: str) -> bool:
    """Return whether an argument is an override and not an option."""
    return "=" in text and not text.startswith("-")


def is_setting(override: Override) -> bool:
    """Return whether an override gives one value to an existing key, and is no choice of a group."""
    key = override.key_or_group
    plain = override.type is not None and override.type.name == "CHANGE" and override.package is None
    return plain and "." in key and "/" not in key and not override.is_sweep_override() and not key.startswith("hydra.")


def has_key(config: DictConfig, key: str) -> bool:
    """Return whether a config has a dotted key; its value may be missing."""
    parent, _, name = key.rpartition(".")
    found = OmegaConf.select(config, parent) if parent else config
    return isinstance(found, DictConfig) and name in found.keys()  # noqa: SIM118 - `in` is false for missing values


def defer(text: str) -> str:
    """Return a setting as a sweep over its one value."""
    key, _, value = text.partition("=")
    return f"{key}=choice({value})"
