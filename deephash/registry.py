"""The registry: which class a word names, by convention and without a list.

A family is a package that holds the choices of one stage, and a word is a file in it. In the family `projections`,
`itq` is the file `itq.py`. Its class is the one whose name is the word without underscores, in any case: `ITQ`. A new
method adds a file and edits nothing else. Installed packages add words by entry points of the group `deephash.FAMILY`,
as `deephash.projections`, from a word to a class.

Saved files hold families and words, and YAML files hold public names, as `deephash.projections.ITQ`. Neither holds the
path of a module, so files can move.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "deephash"
FAMILIES = {
    "affinity": "deephash.affinity",
    "augmentations": "deephash.augmentations",
    "bit_allocations": "deephash.quantizers.bit_allocations",
    "data": "deephash.data",
    "descriptors": "deephash.data.descriptors",
    "encoders": "deephash.encoders",
    "indexes": "deephash.indexes",
    "losses": "deephash.losses",
    "metrics": "deephash.metrics",
    "online_projections": "deephash.projections.online",
    "paired_projections": "deephash.projections.paired",
    "projections": "deephash.projections",
    "protocols": "deephash.data.protocols",
    "quantizers": "deephash.quantizers",
    "ranking": "deephash.ranking",
    "reencoding": "deephash.streams.reencoding",
    "relaxations": "deephash.quantizers.relaxations",
    "streams": "deephash.streams",
    "text_descriptors": "deephash.data.text_descriptors",
    "threshold_searches": "deephash.quantizers.threshold_searches",
    "training": "deephash.training",
}
"""The package of each family. A new family adds a line; a new member adds none."""

FORMER_PACKAGES = {
    "descriptors": "deephash.data.descriptors",
    "online_projections": "deephash.projections",
    "text_descriptors": "deephash.data.text_descriptors",
}
"""Where families lay when saved files named modules, as those of format 1 do; the others lay in `deephash.FAMILY`."""

FORMER_NAMES = {
    "deephash.training.ClosedForm": "deephash.training.FitModule",
    "deephash.training.Joint": "deephash.training.JointModule",
    "deephash.training.closed_form.ClosedForm": "deephash.training.FitModule",
    "deephash.training.joint.Joint": "deephash.training.JointModule",
}
"""Names in the configs of runs of earlier releases, with the current ones."""


class Entry(NamedTuple):
    """Where a class stands in the registry.

    Args:
        family: a key of `FAMILIES`.
        word: the stem of its file, or the name of its entry point.
    """

    family: str
    word: str


def find(family: str, word: str, setting: str = "name") -> type[Any]:
    """The class that a word names.

    Args:
        family: a key of `FAMILIES`.
        word: as `words` lists them.
        setting: what the word was given as, for the message.

    Raises:
        InvalidInputError: no such word, or an installed package whose class cannot be imported.
    """
    found = lookup(family, word)
    if found is None or not is_choice(FAMILIES[family], found):
        raise refusal(f"{setting}={word!r}; expected one of: {', '.join(words(family))}.")
    return found


def lookup(family: str, word: str) -> type[Any] | None:
    """The class of a family's file or plugin of this name, be it a choice or not; None without one.

    Raises:
        InvalidInputError: an installed package whose class cannot be imported.
    """
    package = FAMILIES.get(family)
    if package is None:
        return None
    found = class_of_module(f"{package}.{word}") if word in modules(package) else None
    if found is None and word in plugins(family):
        found = load_plugin(plugins(family)[word])
    return found


def words(family: str) -> list[str]:
    """All words of a family, those of installed packages included, sorted."""
    package = FAMILIES[family]
    own = {word: class_of_module(f"{package}.{word}") for word in modules(package)}
    return sorted({*(word for word, found in own.items() if found and is_choice(package, found)), *plugins(family)})


def is_choice(package: str, found: type[Any]) -> bool:
    """Whether a class fulfils the contract in its package's `base.py`, where there is one, and can be built."""
    contract = contract_of(package)
    return not inspect.isabstract(found) and (contract is None or issubclass(found, contract))


@cache
def contract_of(package: str) -> type[Any] | None:
    """The abstract class that a package's `base.py` defines; None without one."""
    if find_spec(f"{package}.base") is None:
        return None
    base = importlib.import_module(f"{package}.base")
    defined = (one for one in vars(base).values() if isinstance(one, type) and one.__module__ == base.__name__)
    return next((one for one in defined if inspect.isabstract(one)), None)


def locate(kind: type[Any]) -> Entry | None:
    """Where a class stands in the registry; None where it does not."""
    package, _, word = kind.__module__.rpartition(".")
    for family, home in FAMILIES.items():
        if home == package:
            return Entry(family, word) if class_of_module(kind.__module__) is kind else None
    value = f"{kind.__module__}:{kind.__qualname__}"
    for family in FAMILIES:
        for name, point in plugins(family).items():
            if point.value == value:
                return Entry(family, name)
    return None


def public_name(kind: type[Any]) -> str:
    """The name by which YAML files and messages call a class: that of its package, or else its module's path."""
    entry = locate(kind)
    package = kind.__module__ if entry is None else FAMILIES[entry.family]
    return f"{package}.{kind.__qualname__}"


def resolve(name: str) -> type[Any] | None:
    """The class that a public name stands for, as `deephash.projections.ITQ`; None where it stands for none."""
    package, _, own = name.rpartition(".")
    return find_public(package, own) if package in FAMILIES.values() else None


def former_package(family: str) -> str:
    """The package of a family in files that name modules."""
    return FORMER_PACKAGES.get(family, f"{PACKAGE}.{family}")


def resolve_former(path: str) -> type[Any] | None:
    """The class that a file of format 1 names by its module, as `deephash.projections.itq.ITQ`; None without one."""
    module, _, name = path.rpartition(".")
    package = module.rpartition(".")[0]
    for family, home in FAMILIES.items():
        if former_package(family) == package:
            found = find_public(home, name)
            if found is not None:
                return found
    return None


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The module functions `__getattr__` and `__dir__` that give a family's classes by name, imported when asked for.

    Args:
        package: `__name__` of the family's package.
    """

    def get(name: str) -> Any:
        found = find_public(package, name)
        if found is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return found

    def names() -> list[str]:
        return public_names(package)

    return get, names


def find_public(package: str, name: str) -> type[Any] | None:
    """The class of a package's files or of its family's plugins that has this name; None without one."""
    if name.startswith("_"):
        return None
    word = name.lower()
    for stem in modules(package):
        if stem.replace("_", "") == word:
            found = class_of_module(f"{package}.{stem}")
            if found is not None and found.__name__ == name:
                return found
    if find_spec(f"{package}.base") is not None:
        contract = getattr(importlib.import_module(f"{package}.base"), name, None)
        if isinstance(contract, type) and contract.__module__ == f"{package}.base":
            return contract
    for family, home in FAMILIES.items():
        for point in plugins(family).values() if home == package else ():
            if point.attr == name:
                return load_plugin(point)
    return None


def public_names(package: str) -> list[str]:
    """The names of a package's classes, sorted; found without importing their files."""
    found = {class_name(f"{package}.{stem}") for stem in modules(package)}
    base = find_spec(f"{package}.base")
    text = "" if base is None or base.origin is None else Path(base.origin).read_text(encoding="utf-8")
    contracts = re.findall(r"^class (\w+)\(.*\bABC\b", text, re.MULTILINE)
    return sorted({*(name for name in found if name is not None), *contracts})


@cache
def modules(package: str) -> tuple[str, ...]:
    """The stems of a package's files, less subpackages and private ones."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return ()
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(one.name for one in found if not one.ispkg and not one.name.startswith("_")))


@cache
def class_name(module: str) -> str | None:
    """The name of the class that a module's word names, read from its source; None without one."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    word = module.rpartition(".")[2].replace("_", "")
    names = re.findall(r"^class ([A-Z]\w*)", Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE)
    return next((name for name in names if name.lower() == word), None)


def class_of_module(module: str) -> type[Any] | None:
    """The class that a module's word names, imported; None without one."""
    name = class_name(module)
    return None if name is None else getattr(importlib.import_module(module), name)


@cache
def plugins(family: str) -> dict[str, EntryPoint]:
    """The entry points of installed packages by their word."""
    return {point.name: point for point in sorted(entry_points(group=f"{PACKAGE}.{family}"), key=lambda one: one.name)}


def refusal(line: str) -> ValueError:
    """The error for what the user got wrong; imported here, since its module imports torch and this one is light."""
    from deephash.validation import InvalidInputError

    return InvalidInputError(line)


def load_plugin(point: EntryPoint) -> type[Any]:
    """The class of an entry point.

    Raises:
        InvalidInputError: it cannot be imported, or is no class.
    """
    try:
        found = point.load()
    except Exception as error:  # the package's own import can fail in any way
        raise refusal(
            f"{point.group} {point.name!r} of the installed package {point.dist.name if point.dist else '?'} cannot be "
            f"imported ({error}); repair or remove that package."
        ) from error
    if not isinstance(found, type):
        raise refusal(f"{point.group} {point.name!r} names {point.value}, which is not a class.")
    return found
