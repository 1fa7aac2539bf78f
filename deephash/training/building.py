"""From a config to objects: data, hasher, losses, the module that fits and scores, the trainer."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.encoders.base import Encoder
from deephash.hasher import Hasher
from deephash.losses.weighted_sum import WeightedSum
from deephash.protocols.base import Split
from deephash.quantizers.base import Quantizer
from deephash.training.closed_form import ClosedForm
from deephash.validation import InvalidInputError

HYDRA_KEYS = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


def build(config: DictConfig, **parts: Any) -> Any:
    """Build what a config's `_target_` names from its settings, and from parts that are objects already.

    Raises:
        InvalidInputError: a setting that the target does not have, or one that it misses.
    """
    settings = [str(name) for name in config if name not in (*HYDRA_KEYS, *parts)]
    try:
        inspect.signature(get_object(config._target_)).bind(**dict.fromkeys(settings), **parts)
    except TypeError as error:
        raise InvalidInputError(f"{config._target_} {error}; see its YAML for the settings it has.") from error
    # Hydra would turn parts that are dataclasses into configs, so they are given after it.
    return instantiate(config, _partial_=True)(**parts)


def build_data(config: DictConfig, split: Split | None = None) -> HashingDataModule:
    """The data module, with its protocol; `split` is one made before."""
    data: HashingDataModule = build(config.data, protocol=build(config.protocol), seed=config.seed, split=split)
    return data


def build_hasher(config: DictConfig, feature_dim: int) -> Hasher:
    """Quantiser first: it says how many projections its bit budget needs."""
    quantizer: Quantizer = build(config.quantizer, bits=config.bits)
    encoder: Encoder = build(config.encoder, input_dim=feature_dim)
    projection = build(config.projection, input_dim=encoder.output_dim, output_dim=quantizer.projection_dim)
    return Hasher(projection, quantizer, encoder)


def build_module(config: DictConfig, data: HashingDataModule) -> ClosedForm:
    """The Lightning module that fits and scores."""
    return ClosedForm(
        hasher=build_hasher(config, data.feature_dim),
        truth=build(config.truth),
        supervision=build(config.supervision) if config.get("supervision") else None,
        ranking=build(config.ranking),
        at=list(config.metrics.at),
        radii=list(config.metrics.radii),
        stable_order=config.metrics.stable_order,
        seed=config.seed,
    )


def chosen_losses(config: DictConfig) -> dict[str, Any]:
    """The losses that a config adds up, by name.

    A method's setting of a loss of its own, where another was chosen in its place, names no loss.
    """
    named = {str(name): entry for name, entry in (config.get("loss") or {}).items() if entry is not None}
    return {name: entry for name, entry in named.items() if "_target_" in entry}


def build_loss(config: DictConfig, sizes: Mapping[str, Any]) -> WeightedSum:
    """The losses that a config adds up.

    Args:
        config: a run's.
        sizes: what losses with weights of their own may take beside their settings, by the name under which they do:
            code_length, projections, classes (0 where there are no labels), input_dim, generator.

    Raises:
        InvalidInputError: a loss of classes where there are none, or settings that one does not have.
    """
    losses, weights = {}, {}
    for name, entry in chosen_losses(config).items():
        weights[name] = entry.get("weight", 1.0)
        settings = OmegaConf.masked_copy(entry, [key for key in entry if key != "weight"])
        takes = inspect.signature(get_object(entry._target_)).parameters
        if "classes" in takes and sizes["classes"] == 0:
            raise InvalidInputError(
                f"loss={name} learns from labels, and the data have none; choose one of pairs, as loss=ap."
            )
        losses[name] = build(settings, **{size: value for size, value in sizes.items() if size in takes})
    return WeightedSum(losses, weights)


def build_trainer(config: DictConfig, folder: Path) -> lightning.Trainer:
    """The trainer, with its logger; bars are shown on terminals alone."""
    settings = OmegaConf.to_container(config, resolve=True)
    logger = build(config.logger, save_dir=str(folder), settings=settings)
    trainer: lightning.Trainer = build(
        config.trainer,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_progress_bar=sys.stderr.isatty(),
        # What is set for training by gradient has no place in a fit of one step, nor in scoring.
        max_epochs=1,
        accumulate_grad_batches=1,
        gradient_clip_val=None,
        precision="32-true",
        callbacks=None,
    )
    return trainer
