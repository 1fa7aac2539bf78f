"""Lightning's checkpoints without pickle: tensors in safetensors, everything else as JSON in its header."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import CheckpointIO
from torch import Tensor

from deephash.io.files import reading, write_whole
from deephash.validation import InvalidInputError

# JSON objects have only string keys, and JSON has no tuples, so both are marked. A user's string cannot be mistaken for
# a mark, because every mapping is written as a list of pairs.
TENSOR, MAPPING, TUPLE = "tensor", "mapping", "tuple"
DIGEST = "sha256"


class SafetensorsCheckpoint(CheckpointIO):
    """Writer and reader of the complete state of a training: weights, optimiser, schedule, loops and callbacks.

    Files are written atomically and contain a digest. The previous checkpoint is kept beside the last one, in case the
    last one is damaged.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            InvalidInputError: a value is neither a tensor nor JSON-serialisable.
        """
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        state = json.dumps(_to_json(checkpoint, tensors, "checkpoint"))
        metadata = {"state": state, DIGEST: _compute_digest(state, tensors)}
        path = Path(path)
        if path.exists():
            write_whole(previous(path), lambda partial: _copy(path, partial))
        write_whole(path, lambda partial: save_file(tensors, partial, metadata))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint into CPU memory.

        Raises:
            InvalidInputError: the file is missing or damaged; the message names the checkpoint to resume from instead.
        """
        from safetensors import safe_open

        path = Path(path)
        before = f"resume from the previous checkpoint, {previous(path)}"
        then = before if previous(path).exists() and previous(path) != path else "train again from the start"
        with reading(path, "a checkpoint", f"delete it to {then}"):
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            state = metadata["state"]
            # Earlier versions wrote no digest.
            if DIGEST in metadata and metadata[DIGEST] != _compute_digest(state, tensors):
                raise ValueError("it does not match its digest")
            checkpoint = _from_json(json.loads(state), tensors)
            if not isinstance(checkpoint, dict):
                raise ValueError(f"it holds a {type(checkpoint).__name__}")
            return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint if it exists."""
        Path(path).unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Return the path of the previous checkpoint."""
    return path.with_name(f"{'' if path.stem == 'last' else path.stem + '-'}previous{path.suffix}")


def latest(path: Path) -> Path | None:
    """Return the path of the last checkpoint, or else of the previous one; None if neither exists."""
    return next((place for place in (path, previous(path)) if place.exists()), None)


def _copy(path: Path, partial: Path) -> None:
    """Create a hard link to a file, or a copy if the file system does not support links."""
    partial.unlink()
    try:
        partial.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, partial)


def _compute_digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, of the JSON and the tensors of a checkpoint."""
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_json(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """Convert a value to JSON, and add its tensors to `tensors` under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # Copy it, because safetensors rejects tensors that share memory, as averaged and current weights may.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return [TENSOR, name]
    if isinstance(value, dict):
        pairs = [
            [_to_json(key, tensors, place), _to_json(item, tensors, f"{place}.{key}")] for key, item in value.items()
        ]
        return [MAPPING, pairs]
    if isinstance(value, tuple):
        return [TUPLE, [_to_json(item, tensors, place) for item in value]]
    if isinstance(value, list):
        return ["list", [_to_json(item, tensors, place) for item in value]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidInputError(
        f"{place} is a {type(value).__name__}, which a checkpoint cannot store; expected "
        "tensors, numbers, strings, lists or mappings."
    )


def _from_json(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == TENSOR:
        return tensors[content]
    if kind == MAPPING:
        return {_from_json(key, tensors): _from_json(item, tensors) for key, item in content}
    items = [_from_json(item, tensors) for item in content]
    return tuple(items) if kind == TUPLE else items
