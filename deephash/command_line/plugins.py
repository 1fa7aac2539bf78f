"""Choices of installed packages, made known to Hydra as if each had a YAML file."""

import inspect
import sys
from typing import Any

from hydra.core.config_store import ConfigStore

from deephash.registry import FAMILIES, find_plugins, load_plugin
from deephash.validation import InvalidInputError

# Families that one word chooses on the command line: their group, and the key of the config that it sets.
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
    """Add a choice for each entry point, with the class's own defaults; call before Hydra starts."""
    store = ConfigStore.instance()
    for family, (group, key) in GROUPS.items():
        for word, point in find_plugins(family).items():
            try:
                settings = {"_target_": f"{FAMILIES[family]}.{point.attr}", **defaults(load_plugin(point))}
            except InvalidInputError as error:
                # A package that is broken must not keep the others' methods from running.
                print(f"warning: {error}", file=sys.stderr)
                continue
            node = {key: settings}
            store.store(group=group, name=word, node=node, package="_global_", provider=point.value)


def defaults(kind: type[Any]) -> dict[str, Any]:
    """The arguments of a class that have a plain default, so that the command line can set them."""
    parameters = inspect.signature(kind).parameters.values()
    return {one.name: one.default for one in parameters if isinstance(one.default, bool | int | float | str | None)}
