"""What the config of a run that is read may have built: parts of this package, and classes known to do no harm.

A run's folder may come from anybody, and a `_target_` names anything that Python can call. So a config that was read is
checked whole before any of it is built; one that was composed from the command line is the user's own word.
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
"""Environment variable with the names of a user's own modules, which are imported before a run's config is judged."""

STAGES = frozenset(package for family, package in FAMILIES.items() if family not in ("indexes", "training"))
"""Packages of deephash whose public classes are the parts of a run; none of them writes a file when it is built."""

PLACES = {"deephash.training.loggers": "logger", "lightning.Trainer": "trainer"}
"""What writes files, though to the run's own folder alone, and the one setting that builds it so."""

LIBRARIES = {
    "torch.optim": "Optimizer",
    "torch.optim.lr_scheduler": "LRScheduler",
    "torch.nn": "Module",
    **{f"pytorch_metric_learning.{part}": "" for part in ("losses", "miners", "samplers", "distances", "reducers")},
    "pytorch_metric_learning.regularizers": "",
}
"""Modules of libraries whose classes are taken, and the class in them that these must be of; "" for any."""

LIBRARY_CLASSES = (
    *(f"lightning.pytorch.callbacks.{name}" for name in ("EarlyStopping", "GradientAccumulationScheduler")),
    *(f"lightning.pytorch.callbacks.{name}" for name in ("LearningRateMonitor", "StochasticWeightAveraging")),
    "lightning.pytorch.strategies.DDPStrategy",
)


def check_plain(config: Mapping[str, Any], file: Path) -> None:
    """Raise an error for a config that was read and holds interpolations, which look into its reader's environment.

    Args:
        config: mappings, lists and values, with nothing resolved.
        file: where it was read from, for the message.

    Raises:
        InvalidInputError: naming the setting.
    """
    for key, value in _walk(config, ""):
        if isinstance(value, str) and "${" in value:
            raise InvalidInputError(
                f"{file} has {_shown(key)}={_shown(value)}, which would be looked up on this machine; a run's own "
                "config holds plain values: write the value there, or run again."
            )


def check_targets(config: Mapping[str, Any], file: Path) -> None:
    """Refuse a config that was read and names something other than parts of a run, before anything is built.

    Taken are the classes that this package's own YAML files name, the other public classes of its stages, optimisers,
    layers and losses of torch and pytorch-metric-learning, and classes of the user's own modules that are imported
    already. Nothing is imported for the check but this package and those libraries.

    Args:
        config: mappings, lists and values, with nothing resolved.
        file: where it was read from, for the message.

    Raises:
        InvalidInputError: naming the setting.
    """
    import_named_modules()
    for key, value in _walk(config, ""):
        if TARGET not in key.rpartition(".")[2]:  # OmegaConf reads a[_target_] as a._target_.
            continue
        for target in value if isinstance(value, list) else [value]:
            if not is_known(target, key):
                raise InvalidInputError(
                    f"{file} has {_shown(key)}={_shown(target)}, which is no part that a run is built of; where it is "
                    f"a class of your own, import its module first, or name the module in {MODULES_VARIABLE}; else do "
                    "not use this run."
                )


def is_known(target: Any, key: str = "") -> bool:
    """Whether a config that was read may have this built.

    Args:
        target: what the config has as `_target_`.
        key: the setting's dotted name, since some are known in one place alone.
    """
    if not isinstance(target, str) or not all(name.isidentifier() for name in target.split(".")):
        return False
    module, _, name = target.rpartition(".")
    for known, place in PLACES.items():
        if known in (target, module):
            return target in named_in_yaml() and key == f"{place}.{TARGET}"
    if target in named_in_yaml() or target in LIBRARY_CLASSES:
        return True
    if module.startswith("deephash."):
        return module in STAGES and resolve(target) is not None
    if module in LIBRARIES:
        library = _imported(module)
        found, base = getattr(library, name, None), getattr(library, LIBRARIES[module] or name, None)
        return isinstance(found, type) and issubclass(found, base or object) and found.__module__.startswith(module)
    return _is_users(_own_class(sys.modules.get(module), name))


@cache
def named_in_yaml() -> frozenset[str]:
    """Every `_target_` that this package's YAML files name, comments included; not those of indexes and of Hydra."""
    from deephash.io.configuration import find_configuration_folder

    files = Path(find_configuration_folder()).rglob("*.yaml")
    texts = [file.read_text(encoding="utf-8") for file in files if file.parent.name not in ("index", "hydra")]
    return frozenset(name for text in texts for name in re.findall(r"_target_: *([\w.]+\w)", text))


def import_named_modules() -> None:
    """Import what the user names in the environment.

    Raises:
        InvalidInputError: a module that cannot be imported.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(MODULES_VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except Exception as error:  # the module's own code may raise anything
            raise InvalidInputError(
                f"{MODULES_VARIABLE} names {name}, which cannot be imported ({type(error).__name__}: {error}); its "
                "folder must be on PYTHONPATH."
            ) from error


def _shown(value: Any) -> str:
    """A value of a stranger's in a message of one line."""
    return " ".join(str(value).split())[:200]


def _walk(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name, mappings and lists among them."""
    yield key, value
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _walk(inner, f"{key}.{place}")


def _imported(module: str) -> ModuleType | None:
    """A module of this package or of a library; None where there is none."""
    try:
        return importlib.import_module(module) if find_spec(module) is not None else None
    except ImportError:
        return None


def _own_class(module: ModuleType | None, name: str) -> type | None:
    """A public class that a module defines itself, so that none comes through it from elsewhere."""
    found = getattr(module, name, None)
    own = isinstance(found, type) and module is not None and found.__module__ == module.__name__
    return found if own and not name.startswith("_") else None


def _is_users(found: type | None) -> bool:
    """Whether a class of an imported module is the user's own.

    It is one by its contract, or where its code lies elsewhere than Python's and installed packages'.
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
