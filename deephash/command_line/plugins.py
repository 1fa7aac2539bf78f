"""Registration of installed packages' classes with Hydra, as if each had a YAML file."""

import inspect
import sys
from typing import Any

from hydra.core.config_store import ConfigStore

from deephash.registry import FAMILIES, find_plugins, load_plugin
from deephash.validation import InvalidInputError

# Families that can be chosen on the command line: the group, and the config key that it sets.
GROUPS = {
    "augmentations": ("augmentation", "augmentation"),
    "data": ("data", "data"),
    "encoders": ("encoder", "encoder"),
    "online_projections": ("method", "projection"),
    "paired_projections": ("method", "projection"),
    "projections": ("method", "projection"),
    "protocols": ("protocol", "protocol"),
    "quantizers": ("quantizer", "quantizer"),
    "relaxations": ("relaxation", "relaxation"),
}


def register_plugins() -> None:
    """Add a choice for each entry point, with the class's defaults; call this before Hydra starts."""
    store = ConfigStore.instance()
    for family, (group, key) in GROUPS.items():
        for word, point in find_plugins(family).items():
            try:
                settings = {"_target_": f"{FAMILIES[family]}.{point.attr}", **read_defaults(load_plugin(point))}
            except InvalidInputError as error:
                # A broken package must not prevent the use of others.
                print(f"warning: {error}", file=sys.stderr)
                continue
            node = {key: settings}
            store.store(group=group, name=word, node=node, package="_global_", provider=point.value)


def read_defaults(kind: type[Any]) -> dict[str, Any]:
    """Return the arguments of a class with a plain default, which the command line can set."""
    parameters = inspect.signature(kind).parameters.values()
    plain = bool | int | float | str | None
    return {parameter.name: parameter.default for parameter in parameters if isinstance(parameter.default, plain)}
