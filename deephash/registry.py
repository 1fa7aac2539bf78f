"""The registry, which maps words to classes by convention, without a list.

A family is a package of the choices for one stage, and a word is the stem of a file in it. In the family
`projections`, the word `itq` is the file `itq.py`. Its class has the same name in any case and without underscores:
`ITQ`. A new method adds a file and edits no other file. Installed packages add words by entry points of the group
`deephash.FAMILY`, such as `deephash.projections`, which map a word to a class.

Saved files contain families and words; YAML files contain public names, such as `deephash.projections.ITQ`. Neither
contains the path of a module, so files can move.
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
"""Packages of families in files of format 1, which contain module paths; other families were in `deephash.FAMILY`."""

FORMER_NAMES = {
    "deephash.training.ClosedForm": "deephash.training.FitRunner",
    "deephash.training.Joint": "deephash.training.JointRunner",
    "deephash.training.closed_form.ClosedForm": "deephash.training.FitRunner",
    "deephash.training.stream.StreamTraining": "deephash.training.StreamRunner",
    "deephash.training.joint.Joint": "deephash.training.JointRunner",
}
"""Names in the configs of earlier releases, and the current names."""


class Entry(NamedTuple):
    """A class's place in the registry.

    Args:
        family: a key of `FAMILIES`.
        word: the stem of its file, or the name of its entry point.
    """

    family: str
    word: str


def find(family: str, word: str, setting: str = "name") -> type[Any]:
    """Return the class that a word names.

    Args:
        family: a key of `FAMILIES`.
        word: one of `list_words`.
        setting: name of the setting with this word, for the message.

    Raises:
        InvalidInputError: no such word, or an installed package that cannot be imported.
    """
    found = lookup(family, word)
    if found is None or not is_choice(FAMILIES[family], found):
        raise build_input_error(f"{setting}={word!r}; expected one of: {', '.join(list_words(family))}.")
    return found


def lookup(family: str, word: str) -> type[Any] | None:
    """Return the class of a word among a family's files and plugins, even if it is not a choice; None if absent.

    Raises:
        InvalidInputError: an installed package cannot be imported.
    """
    package = FAMILIES.get(family)
    if package is None:
        return None
    found = import_class(f"{package}.{word}") if word in list_modules(package) else None
    if found is None and word in find_plugins(family):
        found = load_plugin(find_plugins(family)[word])
    return found


def list_words(family: str) -> list[str]:
    """Return all words of a family, including those of installed packages, sorted."""
    package = FAMILIES[family]
    classes = {word: import_class(f"{package}.{word}") for word in list_modules(package)}
    choices = (word for word, found in classes.items() if found and is_choice(package, found))
    return sorted({*choices, *find_plugins(family)})


def is_choice(package: str, found: type[Any]) -> bool:
    """Return whether a class can be built and is a subclass of the contract in its package's `base.py`, if any."""
    contract = get_contract(package)
    return not inspect.isabstract(found) and (contract is None or issubclass(found, contract))


@cache
def get_contract(package: str) -> type[Any] | None:
    """Return the abstract class that a package's `base.py` defines, or None."""
    if find_spec(f"{package}.base") is None:
        return None
    base = importlib.import_module(f"{package}.base")
    classes = (value for value in vars(base).values() if isinstance(value, type))
    own_classes = (kind for kind in classes if kind.__module__ == base.__name__)
    return next((kind for kind in own_classes if inspect.isabstract(kind)), None)


def locate(kind: type[Any]) -> Entry | None:
    """Return a class's place in the registry, or None if it has none."""
    package, _, word = kind.__module__.rpartition(".")
    for family, home in FAMILIES.items():
        if home == package:
            return Entry(family, word) if import_class(kind.__module__) is kind else None
    for family in FAMILIES:
        for name, point in find_plugins(family).items():
            # The entry point often names the package that re-exports the class, and not its module.
            if point.module.partition(".")[0] == kind.__module__.partition(".")[0] and is_class_of(point, kind):
                return Entry(family, name)
    return None


def is_class_of(point: EntryPoint, kind: type[Any]) -> bool:
    """Return whether an entry point names this class; False if it cannot be imported."""
    try:
        return load_plugin(point) is kind
    except ValueError:
        return False


def get_word(kind: type[Any]) -> str:
    """Return a class's word in its family; outside the registry, the stem of its file."""
    entry = locate(kind)
    return kind.__module__.rpartition(".")[2] if entry is None else entry.word


def get_public_name(kind: type[Any]) -> str:
    """Return a class's name in YAML files and messages: PACKAGE.CLASS of its family, else MODULE.CLASS."""
    entry = locate(kind)
    package = kind.__module__ if entry is None else FAMILIES[entry.family]
    return f"{package}.{kind.__qualname__}"


def resolve(name: str) -> type[Any] | None:
    """Return the class of a public name, such as `deephash.projections.ITQ`, or None."""
    package, _, class_name = name.rpartition(".")
    return find_public(package, class_name) if package in FAMILIES.values() else None


def get_former_package(family: str) -> str:
    """Return the package of a family in files of format 1."""
    return FORMER_PACKAGES.get(family, f"{PACKAGE}.{family}")


def resolve_former(path: str) -> type[Any] | None:
    """Return the class of a path in a file of format 1, such as `deephash.projections.itq.ITQ`, or None."""
    module, _, name = path.rpartition(".")
    package = module.rpartition(".")[0]
    for family, home in FAMILIES.items():
        if get_former_package(family) == package:
            found = find_public(home, name)
            if found is not None:
                return found
    return None


def exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a family's package; they import its classes on first use.

    Args:
        package: `__name__` of the family's package.
    """

    def get(name: str) -> Any:
        if name == "__all__":  # `from package import *` reads it.
            return list_names()
        if f"{package}.{name}" in FAMILIES.values():
            return importlib.import_module(f"{package}.{name}")
        found = find_public(package, name)
        if found is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return found

    def list_names() -> list[str]:
        return list_public_names(package)

    return get, list_names


def find_public(package: str, name: str) -> type[Any] | None:
    """Return the class of this name among a package's files and its family's plugins, or None."""
    found = find_own(package, name)
    if found is not None:
        return found
    for point in list_plugins_of(package):
        if point.attr == name:
            return load_plugin(point)
    return None


def find_own(package: str, name: str) -> type[Any] | None:
    """Return the class of this name among a package's files, or None."""
    if name.startswith("_"):
        return None
    word = name.lower()
    for stem in list_modules(package):
        if stem.replace("_", "") == word:
            found = import_class(f"{package}.{stem}")
            if found is not None and found.__name__ == name:
                return found
    if name in list_base_classes(package):  # Read from the source, since the import of a base may import Lightning.
        contract: type[Any] = getattr(importlib.import_module(f"{package}.base"), name)
        return contract
    return None


def list_public_names(package: str) -> list[str]:
    """Return the names of a package's classes and of its plugins' classes, sorted, without importing their files."""
    names = {read_class_name(f"{package}.{stem}") for stem in list_modules(package)}
    contracts = (name for name, bases in list_base_classes(package).items() if re.search(r"\bABC\b", bases))
    plugins = (point.attr for point in list_plugins_of(package))
    return sorted({*(name for name in names if name is not None), *contracts, *plugins})


@cache
def list_base_classes(package: str) -> dict[str, str]:
    """Return the public classes of a package's `base.py` with their bases, read from its source; empty without one."""
    base = find_spec(f"{package}.base")
    text = "" if base is None or base.origin is None else Path(base.origin).read_text(encoding="utf-8")
    return dict(re.findall(r"^class ([A-Za-z]\w*)(.*):$", text, re.MULTILINE))


@cache
def list_modules(package: str) -> tuple[str, ...]:
    """Return the stems of a package's public modules, without subpackages."""
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return ()
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return tuple(sorted(module.name for module in found if not module.ispkg and not module.name.startswith("_")))


@cache
def read_class_name(module: str) -> str | None:
    """Return the name of the class that a module's word names, read from its source, or None."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    word = module.rpartition(".")[2].replace("_", "")
    names = re.findall(r"^class ([A-Z]\w*)", Path(spec.origin).read_text(encoding="utf-8"), re.MULTILINE)
    return next((name for name in names if name.lower() == word), None)


def import_class(module: str) -> type[Any] | None:
    """Import and return the class that a module's word names, or return None."""
    name = read_class_name(module)
    return None if name is None else getattr(importlib.import_module(module), name)


@cache
def find_plugins(family: str) -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by their words, sorted."""
    points = entry_points(group=f"{PACKAGE}.{family}")
    return {point.name: point for point in sorted(points, key=lambda point: (point.name, point.value))}


def list_plugins_of(package: str) -> list[EntryPoint]:
    """Return the entry points of the families in a package."""
    return [point for family, home in FAMILIES.items() if home == package for point in find_plugins(family).values()]


def build_input_error(line: str) -> ValueError:
    """Return an `InvalidInputError`, imported on call because its module imports torch, which is slow."""
    from deephash.validation import InvalidInputError

    return InvalidInputError(line)


def load_plugin(point: EntryPoint) -> type[Any]:
    """Import and return the class of an entry point.

    Raises:
        InvalidInputError: it cannot be imported, is not a class of its family, or has the word or the class name of
            another choice.
    """
    plugin = f"{point.group} {point.name!r} of the installed package {point.dist.name if point.dist else '?'}"
    package = FAMILIES[point.group.removeprefix(f"{PACKAGE}.")]
    for other in entry_points(group=point.group):
        if other.value != point.value and (other.name == point.name or other.attr == point.attr):
            raise build_input_error(
                f"{plugin} is {point.value}, and {other.name!r} of {other.dist.name if other.dist else '?'} is "
                f"{other.value}; two choices cannot share a word or a class name: rename one, or remove a package."
            )
    if (point.name in list_modules(package) and read_class_name(f"{package}.{point.name}")) or (
        find_own(package, point.attr) is not None
    ):
        raise build_input_error(
            f"{plugin} is {point.value}, and deephash itself has a choice of that word or class name; rename it, or "
            "remove that package."
        )
    try:
        found = point.load()
    except Exception as error:  # importing the package can raise any error
        raise build_input_error(f"{plugin} cannot be imported ({error}); repair or remove that package.") from error
    if not isinstance(found, type):
        raise build_input_error(f"{plugin} is {point.value}, which is not a class.")
    contract = get_contract(package)
    if contract is not None and not issubclass(found, contract):
        raise build_input_error(f"{plugin} is {point.value}, which is not a subclass of {package}.{contract.__name__}.")
    return found
