"""From a config to the object that it describes."""

import inspect
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from deephash.validation import InvalidInputError

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


def build(config: DictConfig, **parts: Any) -> Any:
    """Build what a config's `_target_` names from its settings, and from parts that are objects already.

    Raises:
        InvalidInputError: a setting that the target does not have, or one that it misses.
    """
    settings = [str(name) for name in config if name not in (*HYDRA_KEYS, *parts)]
    try:
        inspect.signature(get_object(config._target_)).bind(**dict.fromkeys(settings), **parts)
    except TypeError as error:
        raise InvalidInputError(f"{config._target_} {error}; see its YAML for the settings it has.") from error
    # Hydra would turn parts that are dataclasses into configs, so they are given after it.
    return instantiate(config, _partial_=True)(**parts)
