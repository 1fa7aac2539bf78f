"""Weights of torchvision's networks, from a file or downloaded to torch's cache."""

import sys
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from deephash.conversion import shorten_error
from deephash.validation import InvalidInputError

FILES = (".safetensors", ".pth", ".pt")


def fetch_weights(network: str, weights: str) -> Path:
    """Return the file of a network's weights; download weights of torchvision that torch's cache lacks.

    Args:
        network: torchvision's name of the network.
        weights: a path that ends in .safetensors, .pth or .pt, or torchvision's name of weights of this network.

    Raises:
        InvalidInputError: a missing file or a failed download; the message has the address and the local path.
    """
    if weights.endswith(FILES):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InvalidInputError(f"weights={weights!r} does not exist; give a file of {network}'s weights, or null.")
        return path
    address: str = torchvision.models.get_model_weights(network)[weights].url
    path = Path(str(torch.hub.get_dir())) / "checkpoints" / address.rpartition("/")[2]
    if not path.is_file():
        digest = path.stem.rpartition("-")[2]  # file names of torchvision contain the first digits of the SHA-256
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path), digest, progress=sys.stderr.isatty())
        except Exception as error:  # errors of urllib, sockets, the disk or the SHA-256
            raise InvalidInputError(
                f"weights={weights!r} of {network} cannot be downloaded ({shorten_error(error)}); save {address} as "
                f"{path}, or give a file: weights=FILE."
            ) from error
    return path


def read_weights(network: str, weights: str) -> dict[str, Tensor]:
    """Read weights from a file or from torchvision, without unpickling.

    Args:
        network: torchvision's name of the network.
        weights: as in `fetch_weights`.

    Raises:
        InvalidInputError: as in `fetch_weights`, or a file without weights.
    """
    path = fetch_weights(network, weights)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type of error depends on the damage
        remedy = "save a state dict again" if weights.endswith(FILES) else f"delete {path} to download it again"
        raise InvalidInputError(f"weights={weights!r} cannot be read ({shorten_error(error)}); {remedy}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInputError(f"weights={weights!r} does not contain a state dict; save network.state_dict().")
    return state


def load_weights(module: nn.Module, network: str, weights: str, head: str) -> None:
    """Load weights into a network without its classifier.

    Args:
        module: the network.
        network: torchvision's name of the network.
        weights: as in `fetch_weights`.
        head: name of the classifier, whose weights are ignored.

    Raises:
        InvalidInputError: as in `read_weights`, or weights of another network.
    """
    state = read_weights(network, weights)
    try:
        module.load_state_dict({name: value for name, value in state.items() if not name.startswith(f"{head}.")})
    except RuntimeError as error:
        raise InvalidInputError(
            f"weights={weights!r} are not those of {network} ({shorten_error(error)}); give a state dict of "
            f"torchvision's {network}."
        ) from error
