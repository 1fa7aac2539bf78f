"""Where a pretrained encoder computes: once for all images of the data if it is frozen, otherwise in the hasher."""

import inspect
from collections.abc import Iterable
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from deephash.data.descriptors.network_features import NetworkFeatures
from deephash.data.descriptors.pixels import Pixels
from deephash.data.image_folder import ImageFolder
from deephash.encoders.pretrained_encoder import PretrainedEncoder
from deephash.validation import InvalidInputError

DESCRIPTORS = ("descriptor", "image_descriptor")
"""Names of the settings of data that compute features of images."""
IDENTITY = "deephash.encoders.Identity"
FEATURES = "deephash.data.descriptors.NetworkFeatures"
PIXELS = "deephash.data.descriptors.Pixels"


def place_encoder(config: DictConfig) -> DictConfig:
    """Return a config whose data compute what its pretrained encoder needs; other configs are returned unchanged.

    The output of a frozen encoder never changes, so it takes the place of the data's descriptor, and is computed once
    and cached. Any method then learns from it in seconds. If the network learns, or if an augmentation changes images,
    the data are pixels, and the encoder is a part of the hasher, without the head. Pixels that the data crop are not
    cropped again.

    Args:
        config: config of a run; placing it again changes nothing.

    Raises:
        InvalidInputError: the library does not have the network, or is not installed; or a frozen network has random
            weights.
    """
    encoder = config.encoder
    name = find_descriptor_setting(config.data)
    if name is None or not is_pretrained(encoder) or is_earlier(encoder):
        return config
    placed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(placed, DictConfig)
    settings = {key: value for key, value in placed.encoder.items() if key not in ("_target_", "_partial_")}
    kind: type[PretrainedEncoder] = get_class(encoder._target_)
    source = kind.get_source(settings)
    if encoder.get("frozen") and not changes_images(placed.get("augmentation")):
        source.check()
        source.check_trained()
        placed.data[name] = {"_target_": FEATURES, "encoder": {**placed.encoder, "_partial_": True}}
        texts = kind.get_text_descriptor(settings) if "text_descriptor" in placed.data else None
        if texts is not None:
            placed.data.text_descriptor = texts
    elif name == "descriptor" and issubclass(get_class(config.data._target_), ImageFolder):
        read = source.read_preprocessing()
        placed.data[name] = {"_target_": PIXELS, "image_size": read.scaled_size, "interpolation": read.interpolation}
    elif config.data[name].get("resize") and encoder.get("crop") is None:
        placed.encoder.crop = 1.0
    return placed


def changes_images(augmentation: Any) -> bool:
    """Return whether the config of an augmentation, or of one of its parts, is of a class that needs images."""
    if not isinstance(augmentation, DictConfig):
        return False
    target = augmentation.get("_target_")
    if target is not None and getattr(get_class(target), "needs_images", False):
        return True
    return any(changes_images(value) for value in augmentation.values())


def find_descriptor_setting(data: DictConfig) -> str | None:
    """Return the name of the setting of data whose descriptor an encoder may replace; None if there is none.

    Pixels may be replaced, and the features of a pretrained encoder. So may the descriptors of image folders and of
    captioned images, because the names of these data do not include a descriptor, unlike `cifar10_gist`.
    """
    for name in DESCRIPTORS:
        descriptor = data.get(name)
        if not isinstance(descriptor, DictConfig) or "_target_" not in descriptor:
            continue
        stands_for_images = name == "image_descriptor" or issubclass(get_class(data._target_), ImageFolder)
        if stands_for_images or issubclass(get_class(descriptor._target_), Pixels | NetworkFeatures):
            return name
    return None


def is_pretrained(encoder: Any) -> bool:
    """Return whether the config of an encoder is that of a pretrained one."""
    if not isinstance(encoder, DictConfig) or "_target_" not in encoder:
        return False
    kind = get_class(encoder._target_)
    return inspect.isclass(kind) and issubclass(kind, PretrainedEncoder)


def is_earlier(encoder: DictConfig) -> bool:
    """Return whether the config of an encoder was stored by a version without some of its arguments."""
    kind: type[PretrainedEncoder] = get_class(encoder._target_)
    added = set(kind.added_arguments) - {"head"}
    return bool(added) and not any(name in encoder for name in added)


def is_described(config: DictConfig) -> bool:
    """Return whether the features of the data are the output of the config's encoder."""
    name = find_descriptor_setting(config.data)
    if name is None or not is_pretrained(config.encoder):
        return False
    return issubclass(get_class(config.data[name]._target_), NetworkFeatures)


def get_hasher_encoder(config: DictConfig) -> DictConfig:
    """Return the config of the encoder that is a part of the hasher: the head if the data already encode."""
    if is_described(config):
        head: DictConfig = config.get("head") or OmegaConf.create({"_target_": IDENTITY})
        return head
    encoder: DictConfig = config.encoder
    return encoder


def check_head(config: DictConfig, overrides: Iterable[str]) -> None:
    """Raise an error if the command chooses a head and the run has no features of a frozen network for it.

    Deep methods bring a head of their own, which fine-tuned networks go without.

    Args:
        config: config of a run, after `place_encoder`.
        overrides: overrides of the command, such as "encoder@head=mlp".

    Raises:
        InvalidInputError: the message says why the head would have no effect.
    """
    chosen = [override for override in overrides if override.lstrip("+").startswith(("encoder@head=", "head."))]
    if not chosen or is_described(config):
        return
    word = config.choices.encoder
    if not is_pretrained(config.encoder):
        reason = f"encoder={word} is not a pretrained network"
        remedy = "choose one, such as encoder=efficientnet_lite0"
    elif find_descriptor_setting(config.data) is None:
        reason, remedy = f"data={config.choices.data} gives no images to encoder={word}", "choose data of images"
    elif not config.encoder.get("frozen"):
        reason, remedy = f"encoder={word} is fine-tuned as a part of the hasher", "set encoder.frozen=true"
    else:
        reason = "the augmentation changes images, so the network is applied in every step"
        remedy = "choose an augmentation of features, such as noise"
    raise InvalidInputError(
        f"{chosen[0]} sets layers after the features of a frozen pretrained network, but {reason}; {remedy}, or omit "
        f"{chosen[0].partition('=')[0]}."
    )
