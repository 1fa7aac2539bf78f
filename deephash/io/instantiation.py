"""Build the object that a config describes."""

import inspect
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from deephash.validation import InvalidInputError

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


def build(config: DictConfig, **parts: Any) -> Any:
    """Build the `_target_` of a config from its settings and from `parts`, which are already built.

    Raises:
        InvalidInputError: a setting is unknown to the target or missing.
    """
    settings = [str(name) for name in config if name not in (*HYDRA_KEYS, *parts)]
    try:
        inspect.signature(get_object(config._target_)).bind(**dict.fromkeys(settings), **parts)
    except TypeError as error:
        raise InvalidInputError(f"{config._target_} {error}; see its YAML for the settings it has.") from error
    # Hydra turns dataclasses into configs, so parts are passed to the function that it returns.
    return instantiate(config, _partial_=True)(**parts)
