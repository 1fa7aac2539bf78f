"""Where a pretrained network comes from: its layers, its preprocessing and its weights."""

import difflib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deephash.conversion import shorten_error
from deephash.encoders.preprocessing import Preprocessing
from deephash.validation import InvalidInputError

FILES = (".safetensors", ".pth", ".pt")
"""Endings of files of weights."""

SUGGESTIONS = 3
"""Number of similar names in the message about an unknown one."""


class NetworkSource(ABC):
    """A network of one library, which is built without its classifier.

    Args:
        network: the library's name of the network.
        weights: a file, a name that the library or the subclass knows, or None for random weights.
        image_size: side in pixels of the network's input; None for the network's own.
        crop: share of the scaled image that is kept; None for the network's own.
    """

    def __init__(
        self, network: str, weights: str | None, image_size: int | None = None, crop: float | None = None
    ) -> None:
        self.network = network
        self.weights = weights
        self.image_size = image_size
        self.crop = crop

    @property
    def is_file(self) -> bool:
        """Whether the weights are a file that the user named."""
        return self.weights is not None and str(self.weights).endswith(FILES)

    @abstractmethod
    def check(self) -> None:
        """Raise an error for an unknown network or name of weights; files are not looked for.

        Raises:
            InvalidInputError: the message names similar networks.
        """

    @abstractmethod
    def read_preprocessing(self) -> Preprocessing:
        """Return how the network expects its images, without building it."""

    @abstractmethod
    def build(self) -> tuple[nn.Module, int]:
        """Build the network with random weights of torch's default generator; return it and its output dimension."""

    @abstractmethod
    def find_file(self) -> Path | None:
        """Return the file of weights, after a download if that is needed; None for random weights.

        Raises:
            InvalidInputError: a missing file, or a failed download.
        """

    @abstractmethod
    def checkpoint(self, module: nn.Module) -> None:
        """Let a network keep few activations in training and compute the others again in the backward pass.

        Raises:
            InvalidInputError: the network does not support it.
        """

    def check_trained(self) -> None:
        """Raise an error for random weights, whose features are hardly better than pixels.

        Raises:
            InvalidInputError: there are no trained weights.
        """
        if self.weights is None:
            raise InvalidInputError(
                f"encoder.weights=null; {self.network} needs trained weights to compute features: give "
                "encoder.weights, or set encoder.frozen=false to train it from random ones."
            )

    def convert(self, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Return the weights of a file under the names of the network's own weights, without the classifier's."""
        heads = find_classifier_weights(state, module)
        return {name: value for name, value in state.items() if name not in heads}

    def build_seeded(self, seed: int) -> tuple[nn.Module, int]:
        """Build the network with random weights of a seed; torch's default generator keeps its state."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build()

    def load(self, module: nn.Module) -> None:
        """Load the weights into a network that `build` returned.

        Raises:
            InvalidInputError: as in `find_file`, a file without weights, or weights of another network.
        """
        path = self.find_file()
        if path is None:
            return
        state = read_state(path, f"weights={self.weights!r}")
        try:
            module.load_state_dict(self.convert(state, module))
        except (RuntimeError, ValueError) as error:
            raise InvalidInputError(
                f"weights={self.weights!r} are not those of {self.network} ({shorten_error(error)}); give a state dict "
                f"of {self.network}."
            ) from error

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the file of weights; empty for random weights."""
        path = self.find_file()
        if path is None:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return all that the output depends on, as JSON values."""
        preprocessing = self.read_preprocessing()
        return {
            "network": self.network,
            "weights": self.digest(),
            "size": preprocessing.size,
            "mean": list(preprocessing.mean),
            "deviation": list(preprocessing.deviation),
            "interpolation": preprocessing.interpolation,
            "scaled_size": preprocessing.scaled_size,
        }

    def find_user_file(self) -> Path:
        """Return the file that the user named.

        Raises:
            InvalidInputError: it does not exist.
        """
        path = Path(str(self.weights)).expanduser()
        if not path.is_file():
            raise InvalidInputError(
                f"weights={self.weights!r} does not exist; give a file of {self.network}'s weights, or null for random "
                "ones."
            )
        return path


def find_classifier_weights(state: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Return the names of a state dict that a network without its classifier lacks, if they are those of linear maps.

    They belong to one module, whose parts are a weight (classes, e) and a bias (classes,).
    """
    own = module.state_dict()
    further = {name for name in state if name not in own}
    modules = {name.rpartition(".")[0] for name in further}
    shapes = {name.rpartition(".")[2]: state[name].ndim for name in further}
    return further if len(modules) == 1 and shapes in ({"weight": 2}, {"weight": 2, "bias": 1}) else set()


def read_state(path: Path, name: str) -> dict[str, Tensor]:
    """Read a state dict from a file, without unpickling.

    Args:
        path: a file of safetensors, or of `torch.save`.
        name: what the user calls the file, for messages.

    Raises:
        InvalidInputError: a damaged file, or one without a state dict.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the type of error depends on the damage
        raise InvalidInputError(
            f"{name} cannot be read from {path} ({shorten_error(error)}); save a state dict again, or remove the file "
            "to download it again."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InvalidInputError(f"{name} does not contain a state dict; save network.state_dict().")
    return dict(state)


def check_name(name: Any, known: Iterable[str], setting: str, library: str) -> None:
    """Raise an error that names similar names, unless a library knows the name.

    Args:
        name: the value of the setting.
        known: all names of the library.
        setting: name of the setting, for the message.
        library: name of the library, for the message.

    Raises:
        InvalidInputError: an unknown name.
    """
    names = list(known)
    if name in names:
        return
    similar = difflib.get_close_matches(str(name), names, SUGGESTIONS, cutoff=0.4)
    hint = f"; did you mean {' or '.join(similar)}?" if name and similar else f"; {library} has {len(names)} networks."
    raise InvalidInputError(f"{setting}={name!r} is not a network of {library}{hint}")
