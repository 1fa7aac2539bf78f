"""How a hasher lies on disk: a description in JSON and its weights in safetensors, with a hash over both.

Nothing is pickled, and nothing that a stored file names is imported from outside this package.
"""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deephash import registry
from deephash.hashers.outline import check_fits, outline
from deephash.io.files import reading, reason_of, sought, write_json, write_whole
from deephash.validation import InvalidInputError

FORMAT = "deephash hasher"
VERSION = 2
# Format 1 named classes by their modules.
READABLE = (1, 2)
DESCRIPTION_FILE = "hasher.json"
WEIGHTS_FILE = "weights.safetensors"

M = TypeVar("M", bound=nn.Module)


def describe(part: nn.Module) -> dict[str, Any]:
    """The registry's name of a part's class, and the arguments it was built with, in values that JSON holds.

    Arguments are read back from the attributes that bear the names of the constructor's parameters. A class that is
    not in the registry is named by its module.

    Args:
        part: a projection, quantiser or relaxation.

    Raises:
        InvalidInputError: an argument is not kept under its own name, or JSON cannot hold it.
    """
    # A weight under a constraint, and weights that are spread over processes, give their module a class of torch's own
    # making, the latter of FSDPModule, which is slow to import, and the module's class.
    kind: type[nn.Module] = parametrize.type_before_parametrizations(part)
    if kind.__bases__[0].__name__ == "FSDPModule":
        kind = kind.__bases__[1]
    path = f"{kind.__module__}.{kind.__qualname__}"
    arguments: dict[str, Any] = {}
    # A class without an __init__ of its own shows nn.Module's catch-all, and takes no argument.
    signature = inspect.signature(kind)
    takes_none = signature == inspect.signature(nn.Module)
    for name in () if takes_none else signature.parameters:
        if not hasattr(part, name):
            raise InvalidInputError(f"{path} does not keep its argument {name}; set self.{name} so that it is saved.")
        value = getattr(part, name)
        try:
            arguments[name] = describe(value) if isinstance(value, nn.Module) else json.loads(json.dumps(value))
        except TypeError as error:
            raise InvalidInputError(
                f"{path} has {name}={value!r}, which JSON cannot hold; use numbers, words, lists or modules."
            ) from error
    entry = registry.locate(kind)
    named = {"class": path} if entry is None else {"family": entry.family, "name": entry.word}
    return {**named, "arguments": arguments}


def is_part(value: Any) -> bool:
    """Whether a value describes a part, as `describe` gives it."""
    if not isinstance(value, dict) or "arguments" not in value:
        return False
    return "class" in value or (isinstance(value.get("family"), str) and isinstance(value.get("name"), str))


def class_of(description: Mapping[str, Any]) -> tuple[type[Any] | None, str]:
    """The class that a description names, None where it is not known, and what the description calls it.

    A class outside the registry must be imported already: a stored file never makes Python import a module it names.
    """
    if "class" not in description:
        family, word = str(description["family"]), str(description["name"])
        return registry.lookup(family, word), f"{word} among the {family}"
    path = str(description["class"])
    module, _, name = path.rpartition(".")
    return registry.resolve_former(path) or getattr(sys.modules.get(module), name, None), path


def rebuild(description: Any, contract: type[nn.Module]) -> nn.Module:
    """Build the part that `describe` described, with its weights still to be loaded.

    Args:
        description: class and arguments, of this format or the first.
        contract: what the class must be a subclass of.

    Raises:
        InvalidInputError: unknown class, one of another kind, or arguments that it does not take.
    """
    found, name = class_of(description)
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise InvalidInputError(
            f"{name} is no known {contract.__name__}; where it is your own, import its module before loading. "
            "Otherwise another version of deephash saved it."
        )
    arguments = {
        name: rebuild(value, nn.Module) if is_part(value) else value for name, value in description["arguments"].items()
    }
    try:
        return found(**arguments)
    except TypeError as error:
        raise InvalidInputError(f"{name} does not take {arguments} ({error}); another version saved it.") from error


def first_format(description: Any) -> Any:
    """A description with each class named by the module that it had in the first format.

    Identities are digests of this form, so that a hasher keeps its identity, and indexes recognise it, when files move.
    """
    if isinstance(description, list):
        return [first_format(value) for value in description]
    if not isinstance(description, dict):
        return description
    if is_part(description) and "class" not in description:
        family, word = description["family"], description["name"]
        found = registry.lookup(family, word)
        name = word if found is None else found.__name__
        arguments = first_format(description["arguments"])
        return {"class": f"{registry.former_package(family)}.{word}.{name}", "arguments": arguments}
    return {key: first_format(value) for key, value in description.items()}


def identity(description: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """SHA-256, in hex, over a description and weights: two hashers are the same exactly when theirs is.

    Args:
        description: as `describe` gives, JSON values alone.
        weights: tensors by name.
    """
    digest = hashlib.sha256(json.dumps(first_format(description), sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(folder: Path, description: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write a description and weights into a folder, made where missing.

    The description comes last, so that a folder without one is known to be unfinished. Where a hasher lies there
    already, the new weights carry their description as well: a save that broke off between the two files is whole.

    Args:
        folder: where to; files of an earlier save are replaced.
        description: JSON values alone.
        weights: tensors by name.

    Raises:
        StorageError: a file that cannot be written; a hasher that was there is unchanged.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    stored = {"format": FORMAT, "version": VERSION, **description, "identity": identity(description, tensors)}
    path = folder / DESCRIPTION_FILE
    metadata = None
    if path.is_file():
        metadata = {"save": json.dumps({"replaces": hashlib.sha256(path.read_bytes()).hexdigest(), "by": stored})}
    write_whole(folder / WEIGHTS_FILE, lambda partial: save_file(tensors, partial, metadata))
    write_json(path, stored)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write` wrote.

    Returns:
        The description, and the weights on the CPU.

    Raises:
        InvalidInputError: missing folder or file, damaged or foreign contents, another format version, or contents
            that do not match their hash.
    """
    from safetensors import safe_open

    for path in (folder, folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE):
        if not path.exists():
            raise InvalidInputError(f"{sought(path)} does not exist; give the folder of a saved hasher, as RUN/hasher.")
    with reading(folder / DESCRIPTION_FILE, "the description of a hasher", "restore it or fit again"):
        written = (folder / DESCRIPTION_FILE).read_bytes()
        stored = json.loads(written.decode("utf-8"))
    with reading(folder / WEIGHTS_FILE, "weights", "restore it or fit again"):
        with safe_open(folder / WEIGHTS_FILE, "pt") as file:
            # Copies begin where memory is aligned, as fitted weights do; in the file's own place, sums can round
            # otherwise.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (it is no dict)
            save = json.loads((file.metadata() or {}).get("save", "{}"))
        if save and save["replaces"] == hashlib.sha256(written).hexdigest():
            stored = save["by"]
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        raise InvalidInputError(f"{folder / DESCRIPTION_FILE} does not describe a hasher; give the folder of one.")
    version = stored.pop("version", None)
    if version not in READABLE:
        raise InvalidInputError(
            f"{folder / DESCRIPTION_FILE} has format version {version!r}; this deephash reads 1 and 2: upgrade it or "
            "fit again."
        )
    expected = stored.pop("identity", None)
    if identity(stored, weights) != expected:
        raise InvalidInputError(
            f"{folder} does not match its identity {expected}; a file was changed, or a save broke off: restore it or "
            "fit again."
        )
    return stored, weights


def restore(
    build: Callable[[dict[str, Any]], M], description: dict[str, Any], weights: dict[str, Tensor], folder: Path
) -> M:
    """The hasher that `read` found, built of its description and given its weights.

    Args:
        build: from a description to a hasher whose weights are still to be loaded.
        description: as read.
        weights: as read.
        folder: where from, for the message.

    Raises:
        InvalidInputError: a description or weights that make no whole hasher; they are compared before any memory is
            taken for the parts.
    """
    try:
        check_fits(outline(build, description), weights)
        hasher = build(description)
        # Assigned, not copied, so that float64 weights stay float64.
        hasher.load_state_dict(weights, assign=True)
    except Exception as error:  # constructors fail in their own ways at values that no hasher was built with
        reason = reason_of(error).removesuffix(".")
        raise InvalidInputError(f"{folder} holds no whole hasher ({reason}); restore it or fit again.") from error
    return hasher
