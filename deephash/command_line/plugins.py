"""Register the classes of installed packages with Hydra, as if each had a YAML file."""

import inspect
import sys
from typing import Any

from hydra.core.config_store import ConfigStore

from deephash.io.configuration import list_choices
from deephash.registry import FAMILIES, find_plugins, load_plugin
from deephash.validation import InvalidInputError

# Groups of the command line in which one word chooses a class of a family, and the key of the config that it sets.
GROUPS = (
    ("affinity", "supervision", "supervision"),
    ("affinity", "truth", "truth"),
    ("augmentations", "augmentation", "augmentation"),
    ("data", "data", "data"),
    ("encoders", "encoder", "encoder"),
    ("losses", "loss", "loss.{word}"),
    ("metrics", "user_metric", "user_metric.{word}"),
    ("online_projections", "method", "projection"),
    ("paired_projections", "method", "projection"),
    ("projections", "method", "projection"),
    ("protocols", "protocol", "protocol"),
    ("quantizers", "quantizer", "quantizer"),
    ("ranking", "ranking", "ranking"),
    ("reencoding", "reencoding", "reencoding"),
    ("relaxations", "relaxation", "relaxation"),
    ("streams", "stream", "stream"),
)


def register_plugins() -> None:
    """Add a choice for each entry point, with the class's own defaults; call before Hydra starts."""
    warnings: dict[str, None] = {}
    for family, group, key in GROUPS:
        for word, point in find_plugins(family).items():
            try:
                if word in list_choices(group):
                    raise InvalidInputError(
                        f"{group}={word} of the installed package {point.dist.name if point.dist else '?'} is left "
                        "out, because deephash itself has a choice of that name; rename it."
                    )
                settings = {"_target_": f"{FAMILIES[family]}.{point.attr}", **find_defaults(load_plugin(point))}
            except InvalidInputError as error:
                # A broken package must not prevent the methods of others from running.
                warnings[f"warning: {error}"] = None
                continue
            if family == "losses":
                settings = {"weight": 1.0, **settings}
            for part in reversed(key.format(word=word).split(".")):
                settings = {part: settings}
            ConfigStore.instance().store(
                group=group, name=word, node=settings, package="_global_", provider=point.value
            )
    for line in warnings:
        print(line, file=sys.stderr)


def find_defaults(kind: type[Any]) -> dict[str, Any]:
    """Return the arguments of a class that have a plain default, so that the command line can set them."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}
    return {name: value for name, value in defaults.items() if isinstance(value, bool | int | float | str | None)}
