"""Hashers on disk: a description in JSON and weights in safetensors, with a hash over both.

Nothing is pickled. A saved file makes Python import only deephash and its installed plugins.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deephash import registry
from deephash.hashers.outline import check_fits, outline
from deephash.io.files import describe_error, format_missing_path, reading, write_json, write_whole
from deephash.validation import InvalidInputError

FORMAT = "deephash hasher"
VERSION = 2
# Format 1 named classes by their modules.
READABLE = (1, 2)
DESCRIPTION_FILE = "hasher.json"
WEIGHTS_FILE = "weights.safetensors"
# The same two files by the conventions of model hubs.
HUB_DESCRIPTION_FILE = "config.json"
HUB_WEIGHTS_FILE = "model.safetensors"
# Order of the bits in packed codes, as `numpy.packbits(bitorder=...)` names it.
BIT_ORDER = "little"

M = TypeVar("M", bound=nn.Module)


def describe(part: nn.Module) -> dict[str, Any]:
    """Return the registry entry of a part's class and the arguments that it was built with, as JSON values.

    Arguments are read from the attributes with the names of the constructor's parameters. A class outside the registry
    is named by its module. Added arguments are left out if they have the values of earlier versions, so that a hasher
    saved by one keeps its identity.

    Raises:
        InvalidInputError: an argument is not an attribute of the part, or is not JSON-serialisable.
    """
    # torch replaces the class of a module with constrained or sharded weights by a generated subclass. That of sharded
    # weights has two bases: FSDPModule, which is slow to import, and the original class.
    kind: type[nn.Module] = parametrize.type_before_parametrizations(part)
    if kind.__bases__[0].__name__ == "FSDPModule":
        kind = kind.__bases__[1]
    path = f"{kind.__module__}.{kind.__qualname__}"
    arguments: dict[str, Any] = {}
    signature = inspect.signature(kind)
    # A class without __init__ inherits nn.Module's *args and **kwargs, and takes no argument.
    has_arguments = signature != inspect.signature(nn.Module)
    added = getattr(kind, "added_arguments", {})
    for name in signature.parameters if has_arguments else ():
        if not hasattr(part, name):
            raise InvalidInputError(f"{path} does not keep its argument {name}; set self.{name} so that it is saved.")
        value = getattr(part, name)
        if name in added and value == added[name]:
            continue
        try:
            arguments[name] = describe(value) if isinstance(value, nn.Module) else json.loads(json.dumps(value))
        except TypeError as error:
            raise InvalidInputError(
                f"{path} has {name}={value!r}, which is not JSON-serialisable; use numbers, strings, lists or modules."
            ) from error
    entry = registry.locate(kind)
    key = {"class": path} if entry is None else {"family": entry.family, "name": entry.word}
    return {**key, "arguments": arguments}


def is_description(value: Any) -> bool:
    """Return whether a value is a part's description, as `describe` returns it."""
    if not isinstance(value, dict) or "arguments" not in value:
        return False
    return "class" in value or (isinstance(value.get("family"), str) and isinstance(value.get("name"), str))


def find_class(description: Mapping[str, Any]) -> tuple[type[Any] | None, str]:
    """Return the class that a description names, or None if it is unknown, and its name for messages.

    A class outside the registry must be imported already: a saved file never makes Python import a module it names.
    """
    if "class" not in description:
        family, word = str(description["family"]), str(description["name"])
        return registry.lookup(family, word), f"{word} among the {family}"
    path = str(description["class"])
    module, _, name = path.rpartition(".")
    return registry.resolve_former(path) or getattr(sys.modules.get(module), name, None), path


def rebuild(description: Any, contract: type[nn.Module]) -> nn.Module:
    """Build a part from the description that `describe` returned; its weights are loaded later.

    Args:
        description: class and arguments, in either format.
        contract: base class that the class must have.

    Raises:
        InvalidInputError: the class is unknown, has the wrong base class, or does not accept the arguments.
    """
    kind, name = find_class(description)
    if not (isinstance(kind, type) and issubclass(kind, contract)):
        raise InvalidInputError(
            f"{name} is not a known {contract.__name__}; if it is your own class, import its module before "
            "loading. Otherwise another version of deephash saved it."
        )
    arguments = dict(getattr(kind, "added_arguments", {})) | {
        name: rebuild(value, nn.Module) if is_description(value) else value
        for name, value in description["arguments"].items()
    }
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InvalidInputError(f"{name} does not accept {arguments} ({error}); another version saved it.") from error


def find_unknown(description: Any) -> Iterator[tuple[str, str]]:
    """Yield the family and the word of each part that the registry does not have."""
    if is_description(description) and "class" not in description:
        family, word = description["family"], description["name"]
        if registry.lookup(family, word) is None:
            yield family, word
    if isinstance(description, dict | list):
        for value in description.values() if isinstance(description, dict) else description:
            yield from find_unknown(value)


def use_first_format(description: Any) -> Any:
    """Return a description in which each class is named by its module of format 1.

    Identities are digests of this form. So a hasher keeps its identity, and indexes recognise it, when files move.
    """
    if isinstance(description, list):
        return [use_first_format(value) for value in description]
    if not isinstance(description, dict):
        return description
    if is_description(description) and "class" not in description:
        family, word = description["family"], description["name"]
        kind = registry.lookup(family, word)
        name = word if kind is None else kind.__name__
        arguments = use_first_format(description["arguments"])
        return {"class": f"{registry.get_former_package(family)}.{word}.{name}", "arguments": arguments}
    return {key: use_first_format(value) for key, value in description.items()}


def identity(description: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of a description in JSON values and of weights by name."""
    digest = hashlib.sha256(json.dumps(use_first_format(description), sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_files(folder: Path) -> tuple[Path, Path]:
    """Return the paths of the description and the weights in a folder, with the names of model hubs if it uses them."""
    own, hub = folder / DESCRIPTION_FILE, folder / HUB_DESCRIPTION_FILE
    if hub.exists() and not own.exists():
        return hub, folder / HUB_WEIGHTS_FILE
    return own, folder / WEIGHTS_FILE


def write(
    folder: Path,
    description: dict[str, Any],
    weights: dict[str, Tensor],
    names: tuple[str, str] = (DESCRIPTION_FILE, WEIGHTS_FILE),
) -> None:
    """Write a description and weights into a folder, which is created if missing.

    The description is written last, so a folder without one is unfinished. If the folder holds a hasher already, the
    file of the new weights contains their description too. So a save that is interrupted between the two files can be
    read.

    Args:
        folder: output folder; files of an earlier save are replaced.
        description: JSON values.
        weights: tensors by name.
        names: names of the two files.

    Raises:
        StorageError: a file cannot be written; an earlier hasher in the folder is unchanged.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    stored = {"format": FORMAT, "version": VERSION, **description, "identity": identity(description, tensors)}
    if names[0] == HUB_DESCRIPTION_FILE:
        # Files on a hub are also read by other programs, for which the order of the bits is not obvious.
        stored["bit_order"] = BIT_ORDER
    path = folder / names[0]
    metadata = None
    if path.is_file():
        metadata = {"save": json.dumps({"replaces": hashlib.sha256(path.read_bytes()).hexdigest(), "by": stored})}
    write_whole(folder / names[1], lambda partial: save_file(tensors, partial, metadata))
    write_json(path, stored)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description and the weights that `write` wrote, by either pair of names, onto the CPU.

    Raises:
        InvalidInputError: the folder or a file is missing, the contents are damaged, of another program or of an
            unknown format version, or they do not match their hash.
    """
    from safetensors import safe_open

    description_file, weights_file = find_files(folder)
    for path in (folder, description_file, weights_file):
        if not path.exists():
            raise InvalidInputError(
                f"{format_missing_path(path)} does not exist; give the folder of a saved hasher, such as RUN/hasher."
            )
    with reading(description_file, "the description of a hasher", "restore it or fit again"):
        written = description_file.read_bytes()
        stored = json.loads(written.decode("utf-8"))
    with reading(weights_file, "weights", "restore it or fit again"):
        with safe_open(weights_file, "pt") as file:
            # Copies are aligned in memory, as fitted weights are; without alignment, sums can round differently.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
            save = json.loads((file.metadata() or {}).get("save", "{}"))
        if save and save["replaces"] == hashlib.sha256(written).hexdigest():
            stored = save["by"]
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        raise InvalidInputError(f"{description_file} does not describe a hasher; give the folder of one.")
    version = stored.pop("version", None)
    if version not in READABLE:
        raise InvalidInputError(
            f"{description_file} has format version {version!r}; this deephash reads 1 and 2: upgrade it or fit again."
        )
    order = stored.pop("bit_order", BIT_ORDER)
    if order != BIT_ORDER:
        raise InvalidInputError(
            f"{description_file} has bit_order={order!r}; deephash packs bits in {BIT_ORDER} order."
        )
    expected = stored.pop("identity", None)
    if identity(stored, weights) != expected:
        for family, word in find_unknown(stored):  # The identity contains the names of the classes.
            raise InvalidInputError(
                f"{folder} needs {word!r} among the {family}, which this deephash does not have; install the package "
                "that adds it, or upgrade deephash."
            )
        raise InvalidInputError(
            f"{folder} does not match its identity {expected}; a file was changed, or a save was interrupted: "
            "restore it or fit again."
        )
    return stored, weights


def restore(
    build: Callable[[dict[str, Any]], M], description: dict[str, Any], weights: dict[str, Tensor], folder: Path
) -> M:
    """Build a hasher from its description and load its weights.

    The weights are compared with the description before any memory is allocated for the parts.

    Args:
        build: function from a description to a hasher whose weights are loaded later.
        description: description that `read` returned.
        weights: weights that `read` returned.
        folder: folder that was read, for the message.

    Raises:
        InvalidInputError: the weights do not fit the description, or the description is invalid.
    """
    try:
        check_fits(outline(build, description), weights)
        hasher = build(description)
        # Assigned, not copied, so that float64 weights stay float64.
        hasher.load_state_dict(weights, assign=True)
    except Exception as error:  # constructors raise any error for values that no hasher was built with
        reason = describe_error(error).removesuffix(".")
        raise InvalidInputError(
            f"{folder} does not contain a complete hasher ({reason}); restore it or fit again."
        ) from error
    return hasher
