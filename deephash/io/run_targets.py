"""Targets that a run's config may name when it is read: parts of this package and classes known to be harmless.

A run's folder may be untrusted, and a `_target_` can name anything that Python can call. So a config is checked
completely before any part of it is built. Configs composed from the command line are trusted.
"""

import importlib
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from deephash.registry import FAMILIES, resolve
from deephash.validation import InvalidInputError

TARGET = "_target_"

MODULES_VARIABLE = "DEEPHASH_MODULES"
"""Environment variable with names of a user's modules, which are imported before a run's config is checked."""

STAGES = frozenset(package for family, package in FAMILIES.items() if family not in ("indexes", "training"))
"""Packages whose public classes are the parts of a run; building one never writes a file."""

PLACES = {"deephash.training.loggers": "logger", "lightning.Trainer": "trainer"}
"""Targets that write files, but only into the run's folder, each with the setting in which it is accepted."""

LIBRARIES = {
    "torch.optim": "Optimizer",
    "torch.optim.lr_scheduler": "LRScheduler",
    "torch.nn": "Module",
    **{f"pytorch_metric_learning.{part}": "" for part in ("losses", "miners", "samplers", "distances", "reducers")},
    "pytorch_metric_learning.regularizers": "",
}
"""Modules of libraries whose classes are accepted, each with the required base class; "" for any."""

LIBRARY_CLASSES = (
    *(f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "GradientAccumulationScheduler")),
    *(f"lightning.pytorch.callbacks.{name}" for name in ("LearningRateMonitor", "StochasticWeightAveraging")),
    "lightning.pytorch.strategies.DDPStrategy",
)


def check_plain(config: Mapping[str, Any], file: Path) -> None:
    """Raise an error if an unresolved config contains interpolations, which can read the environment.

    Args:
        config: mappings, lists and values.
        file: its file, for the message.
    """
    for key, value in _walk(config, ""):
        if isinstance(value, str) and "${" in value:
            raise InvalidInputError(
                f"{file} has {_shorten(key)}={_shorten(value)}, which would be looked up on this machine; a run's own "
                "config holds plain values: write the value there, or run again."
            )


def check_targets(config: Mapping[str, Any], file: Path) -> None:
    """Raise an error if an unresolved config names targets that are not parts of a run, before anything is built.

    Accepted targets are those of this package's YAML files, the other public classes of its stages, optimisers, layers
    and losses of torch and pytorch-metric-learning, and classes of the user's imported modules. The check imports only
    this package and those libraries.

    Args:
        config: mappings, lists and values.
        file: its file, for the message.
    """
    import_named_modules()
    for key, value in _walk(config, ""):
        if TARGET not in key.rpartition(".")[2]:  # OmegaConf reads a[_target_] as a._target_.
            continue
        for target in value if isinstance(value, list) else [value]:
            if not is_known(target, key):
                raise InvalidInputError(
                    f"{file} has {_shorten(key)}={_shorten(target)}, which is not a part of a run; if it is a "
                    f"class of your own, import its module first, or name the module in {MODULES_VARIABLE}; "
                    "otherwise do not use this run."
                )


def is_known(target: Any, key: str = "") -> bool:
    """Return whether a config may have this `_target_`.

    Args:
        target: the value in the config.
        key: the setting's dotted name, since some targets are accepted in only one place.
    """
    if not isinstance(target, str) or not all(name.isidentifier() for name in target.split(".")):
        return False
    module, _, name = target.rpartition(".")
    for known, place in PLACES.items():
        if known in (target, module):
            return target in list_yaml_targets() and key == f"{place}.{TARGET}"
    if target in list_yaml_targets() or target in LIBRARY_CLASSES:
        return True
    if module.startswith("deephash."):
        return module in STAGES and resolve(target) is not None
    if module in LIBRARIES:
        library = _import(module)
        found, base = getattr(library, name, None), getattr(library, LIBRARIES[module] or name, None)
        return isinstance(found, type) and issubclass(found, base or object) and found.__module__.startswith(module)
    return _is_user_class(_find_own_class(sys.modules.get(module), name))


@cache
def list_yaml_targets() -> frozenset[str]:
    """Return every `_target_` in this package's YAML files and their comments, except those of indexes and Hydra."""
    from deephash.io.configuration import find_configuration_folder

    files = Path(find_configuration_folder()).rglob("*.yaml")
    texts = [file.read_text(encoding="utf-8") for file in files if file.parent.name not in ("index", "hydra")]
    return frozenset(name for text in texts for name in re.findall(r"_target_: *([\w.]+\w)", text))


def import_named_modules() -> None:
    """Import the modules that `DEEPHASH_MODULES` names.

    Raises:
        InvalidInputError: a module cannot be imported.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(MODULES_VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except Exception as error:  # the module's code can raise any error
            raise InvalidInputError(
                f"{MODULES_VARIABLE} names {name}, which cannot be imported ({type(error).__name__}: {error}); its "
                "folder must be on PYTHONPATH."
            ) from error


def _shorten(value: Any) -> str:
    """Return an untrusted value on one line of at most 200 characters."""
    return " ".join(str(value).split())[:200]


def _walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield every value, including mappings and lists, with its dotted name."""
    yield key, value
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _walk(inner, f"{key}.{place}")


def _import(module: str) -> ModuleType | None:
    """Import and return a module, or return None if it is not installed."""
    try:
        return importlib.import_module(module) if find_spec(module) is not None else None
    except ImportError:
        return None


def _find_own_class(module: ModuleType | None, name: str) -> type | None:
    """Return a public class that a module defines itself and does not import, or None."""
    found = getattr(module, name, None)
    own = isinstance(found, type) and module is not None and found.__module__ == module.__name__
    return found if own and not name.startswith("_") else None


def _is_user_class(found: type | None) -> bool:
    """Return whether a class of an imported module is the user's own.

    It is the user's own if it has a base class of deephash, or is in neither Python's library nor an installed package.
    """
    if found is None:
        return False
    if any(base.__module__.rpartition(".")[0] in STAGES for base in found.__mro__[1:]):
        return True
    module = sys.modules[found.__module__]
    file = getattr(module, "__file__", None)
    if file is None or found.__module__.partition(".")[0] in sys.stdlib_module_names:
        return False
    folders = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    place = Path(file).resolve()
    installed = any(folder in place.parents for folder in folders)
    return not installed and not {"site-packages", "dist-packages"} & set(place.parts)
