"""Weights of torchvision's networks, from a file or downloaded to torch's cache."""

import sys
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from deephash.validation import InvalidInputError

FILES = (".safetensors", ".pth", ".pt")


def fetch_weights(network: str, weights: str) -> Path:
    """Return the file of a network's weights; download torchvision's if they are not in torch's cache.

    Args:
        network: name of a torchvision network.
        weights: a path that ends in .safetensors, .pth or .pt, or the name of torchvision weights of this network.

    Raises:
        InvalidInputError: the file does not exist, or the download fails; the message names the address and the
            expected path.
    """
    if weights.endswith(FILES):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InvalidInputError(f"weights={weights!r} does not exist; give a file of {network}'s weights, or null.")
        return path
    address: str = torchvision.models.get_model_weights(network)[weights].url
    path = Path(str(torch.hub.get_dir())) / "checkpoints" / address.rpartition("/")[2]
    if not path.is_file():
        digest = path.stem.rpartition("-")[2]  # torchvision's files are named by the beginning of their SHA-256
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(path), digest, progress=sys.stderr.isatty())
        except Exception as error:  # Errors of urllib, sockets or the disk, or a wrong SHA-256.
            reason = " ".join(str(error).split())[:200]
            raise InvalidInputError(
                f"weights={weights!r} of {network} cannot be downloaded ({reason}); put {address} at {path}, or give a "
                "file of them, such as weights=FILE."
            ) from error
    return path


def read_weights(network: str, weights: str) -> dict[str, Tensor]:
    """Read weights from a file or from torchvision, without unpickling.

    Args:
        network: name of a torchvision network.
        weights: see `fetch_weights`.

    Raises:
        InvalidInputError: an error of `fetch_weights`, or the file has no weights.
    """
    path = fetch_weights(network, weights)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # The exception of a damaged file depends on the position of the damage.
        reason = " ".join(str(error).split())[:200]
        then = "save a state dict again" if weights.endswith(FILES) else f"delete {path}, and it is downloaded again"
        raise InvalidInputError(f"weights={weights!r} cannot be read ({reason}); {then}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInputError(f"weights={weights!r} holds no state dict; save what network.state_dict() gives.")
    return state
