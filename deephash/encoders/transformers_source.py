"""Networks for images in the format of transformers, and the image towers of networks for images and texts."""

import hashlib
import inspect
import json
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deephash.conversion import shorten_error
from deephash.encoders.network_source import NetworkSource
from deephash.encoders.preprocessing import Preprocessing
from deephash.io.files import read_json
from deephash.validation import InvalidInputError

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files of a repository that are downloaded: no file of Python, and no pickle."""

RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the interpolations in the configurations of image processors."""

NAMES_OF_CODE = {"auto_map", "attn_implementation", "_attn_implementation", "quantization_config"}
"""Entries of a configuration that name code outside transformers: classes, and kernels of the hub."""

WITHOUT_POOLING = ("vit", "deit")
"""Architectures whose pooling layer most checkpoints lack; the class token is used instead."""


def import_transformers() -> Any:
    """Return transformers, which is optional, without its progress bars.

    Raises:
        InvalidInputError: it is not installed.
    """
    if find_spec("transformers") is None:
        raise InvalidInputError("transformers is not installed; run pip install 'deephash[pretrained]'.")
    library = import_module("transformers")
    import_module("transformers.utils.logging").disable_progress_bar()  # loading weights takes less than a second
    return library


def find_model_folder(name: str, setting: str = "network") -> Path:
    """Return the folder of a model, after a download from the hub if the name is not a folder and its cache lacks it.

    Args:
        name: a folder, or a name of the hub.
        setting: name of the setting, for messages.

    Raises:
        InvalidInputError: no name, an unknown one, a failed download, or no weights in safetensors.
    """
    if not name:
        raise InvalidInputError(
            f"{setting}={name!r}; give the folder of a model or a name of the hub, such as facebook/dinov2-small."
        )
    folder = Path(name).expanduser()
    if not folder.is_dir():
        client = import_module("huggingface_hub")
        try:
            folder = Path(client.snapshot_download(name, allow_patterns=list(FILES)))
        except Exception as error:  # errors of names, HTTP, sockets and the disk
            raise InvalidInputError(
                f"{setting}={name!r} is not a folder and cannot be downloaded ({type(error).__name__}: "
                f"{shorten_error(error)}); check the name and the connection, or give a folder."
            ) from error
    if not any(folder.glob("*.safetensors")):
        raise InvalidInputError(
            f"{setting}={name!r} has no .safetensors file; save the model by save_pretrained, which writes one."
        )
    return folder


def digest_model(folder: Path) -> str:
    """Return the SHA-256, in hex, of the files of a model, by name and contents."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in FILES for file in folder.glob(pattern)}):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class TransformersSource(NetworkSource):
    """A network in the format of transformers: a folder, or a name of the hub.

    Args:
        network: the folder or name.
        architecture: configuration of a stored network, which then needs no folder; None reads the folder.
        image_size: see `NetworkSource`.
        crop: see `NetworkSource`.
    """

    def __init__(
        self,
        network: str,
        architecture: dict[str, Any] | None = None,
        image_size: int | None = None,
        crop: float | None = None,
    ) -> None:
        super().__init__(network, network, image_size, crop)
        self._architecture = architecture

    def check(self) -> None:
        """Raise an error if transformers is not installed or no network is given."""
        import_transformers()
        if not self.network:
            find_model_folder(self.network)

    @property
    def architecture(self) -> dict[str, Any]:
        """The configuration of the network and of its images, as JSON values."""
        if self._architecture is None:
            folder, library = self.find_file(), import_transformers()
            try:
                config = read_json(folder / "config.json", "the configuration of a model")
                known = library.AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
                images = library.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise InvalidInputError(
                    f"network={self.network!r} cannot be read ({shorten_error(error)}); give a model for images with "
                    "its preprocessor_config.json."
                ) from error
            size, cropped = _read_side(images.size), _read_side(getattr(images, "crop_size", None))
            crops = bool(getattr(images, "do_center_crop", False)) and bool(cropped)
            # The configuration as a whole, since defaults of the library can change.
            self._architecture = {
                "model": drop_names_of_code({**config, **keep_plain(known)}),
                "size": cropped if crops else size,
                "crop": min(1.0, cropped / size) if crops else 1.0,
                "mean": [float(value) for value in images.image_mean],
                "deviation": [float(value) for value in images.image_std],
                "interpolation": RESAMPLING.get(int(getattr(images, "resample", 3) or 3), "bicubic"),
            }
        return self._architecture

    def read_preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the model's image processor, with the settings of the user."""
        known = self.architecture
        return Preprocessing(
            self.image_size or known["size"],
            tuple(known["mean"]),
            tuple(known["deviation"]),
            known["interpolation"],
            known["crop"] if self.crop is None else self.crop,
        )

    def build(self) -> tuple[nn.Module, int]:
        """Build the image tower with random weights."""
        library = import_transformers()
        try:
            model = library.AutoModel.from_config(
                build_config(self.architecture["model"]), trust_remote_code=False, **self._leave_out_pooling()
            )
            tower = ImageTower(model, self.image_size is not None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInputError(
                f"network={self.network!r} cannot be built ({shorten_error(error)}); give a model for images that "
                "transformers contains."
            ) from error
        return tower.eval(), tower.find_width(self.read_preprocessing().size)

    def checkpoint(self, module: nn.Module) -> None:
        """Turn on the checkpoints of transformers."""
        model: Any = module.get_submodule("model")
        try:
            model.gradient_checkpointing_enable()
        except ValueError as error:
            raise InvalidInputError(
                f"encoder.checkpointing=true; {self.network} does not support it: set it to false."
            ) from error

    def find_file(self) -> Path:
        """Return the folder of the network, after a download if that is needed."""
        return find_model_folder(self.network)

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the files of the network."""
        return digest_model(self.find_file())

    def load(self, module: nn.Module) -> None:
        """Load the weights into a network that `build` returned.

        Raises:
            InvalidInputError: damaged files, or files that lack weights of the network.
        """
        library, folder = import_transformers(), self.find_file()
        try:
            model, report = library.AutoModel.from_pretrained(
                folder, config=build_config(self.architecture["model"]), trust_remote_code=False, use_safetensors=True,
                output_loading_info=True, **self._leave_out_pooling(),
            )  # fmt: skip
        except Exception as error:  # the type of error depends on the damage
            raise InvalidInputError(
                f"network={self.network!r} cannot be read ({shorten_error(error)}); download or save the model again."
            ) from error
        loaded = ImageTower(model, self.image_size is not None).float()
        missing = sorted(name for name in report["missing_keys"] if name in loaded.model.state_dict())
        if missing:
            raise InvalidInputError(
                f"network={self.network!r} lacks {len(missing)} weights, the first {missing[0]}; download or save the "
                "model again."
            )
        module.load_state_dict(loaded.state_dict())

    def _leave_out_pooling(self) -> dict[str, bool]:
        return {"add_pooling_layer": False} if self.architecture["model"].get("model_type") in WITHOUT_POOLING else {}


class ImageTower(nn.Module):
    """The part of a model of transformers that encodes images: pixels (n, 3, h, w) → (n, e).

    Of models with two towers, such as CLIP, it computes the projected features that texts are compared with, and the
    text tower is left out. Of others it computes the pooled output, or else that of the class token.

    Args:
        model: the model.
        resized: whether images have another size than the model's own, so that positions are interpolated.
    """

    def __init__(self, model: nn.Module, resized: bool) -> None:
        super().__init__()
        self.model = model
        for name in ("text_model", "text_projection"):
            if hasattr(model, name):
                setattr(model, name, nn.Identity())
        for name in ("logit_scale", "logit_bias"):
            if isinstance(getattr(model, name, None), nn.Parameter):
                delattr(model, name)
        function: Any = getattr(model, "get_image_features", model.forward)
        interpolates = resized and "interpolate_pos_encoding" in inspect.signature(function).parameters
        self._settings = {"interpolate_pos_encoding": True} if interpolates else {}

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, (n, 3, h, w) → (n, e)."""
        model: Any = self.model
        encode = model.get_image_features if hasattr(model, "get_image_features") else model
        return pool_output(encode(pixel_values=images, **self._settings))

    def find_width(self, size: int) -> int:
        """Return the output dimension e, for images of a size."""
        with torch.no_grad():
            return int(self(torch.zeros(1, 3, size, size)).shape[1])


def pool_output(output: Any) -> Tensor:
    """Return one row per item of a model's output: a tensor, the pooled output, or the class token's."""
    if isinstance(output, Tensor):
        return output
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    features: Tensor = output.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)
    return features


def _read_side(size: Any) -> int:
    """Return the side of a size, which is a number or a mapping; 0 for none."""
    if isinstance(size, int):
        return size
    for name in ("shortest_edge", "height"):
        with suppress(KeyError, TypeError, AttributeError):
            side = size[name] if isinstance(size, dict) else getattr(size, name)
            if side:
                return int(side)
    return 0


def build_config(settings: dict[str, Any]) -> Any:
    """Return a configuration of transformers; the settings may come from anyone.

    Args:
        settings: JSON values, with the name of the architecture as model_type.
    """
    settings = drop_names_of_code(settings)
    return import_transformers().AutoConfig.for_model(settings.pop("model_type", ""), **settings)


def drop_names_of_code(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without entries that could make transformers load code, also in its towers."""
    return {
        name: drop_names_of_code(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in NAMES_OF_CODE
    }


def keep_plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a configuration that are JSON values."""
    plain = {}
    for name, value in values.items():
        with suppress(TypeError, ValueError):
            plain[name] = json.loads(json.dumps(value))
    return plain
