"""From a config to objects: data, hasher, losses, the module that fits and scores, the trainer."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn

from deephash.affinity.base import Affinity
from deephash.augmentations.view_augmentations import ViewAugmentations
from deephash.data.base import HashingDataModule
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.base import Split
from deephash.encoders.base import Encoder
from deephash.encoders.image_encoder import ImageEncoder
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import LEARNT
from deephash.evaluation.scoring import ScoreSettings
from deephash.hashers.cross_modal_hasher import CrossModalHasher
from deephash.hashers.hasher import Hasher
from deephash.io.instantiation import build
from deephash.io.path_settings import describe_paths
from deephash.losses.weighted_sum import WeightedSum
from deephash.metrics.user_metric import UserMetric
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.training.fit_module import FitModule
from deephash.validation import InvalidInputError


def build_data(config: DictConfig, split: Split | None = None) -> HashingDataModule:
    """The data module, with its protocol; `split` is one made before."""
    data: HashingDataModule = build(config.data, protocol=build(config.protocol), seed=config.seed, split=split)
    data.given_files = describe_paths(config.data, "data")
    return data


def build_hasher(config: DictConfig, feature_dim: int | dict[str, int]) -> Hasher | CrossModalHasher:
    """Quantiser first: it says how many projections its bit budget needs.

    Raises:
        InvalidInputError: a method of one view for data with two, or the other way round.
    """
    paired = issubclass(get_class(config.projection._target_), PairedProjection)
    if isinstance(feature_dim, int):
        if paired:
            raise InvalidInputError(
                f"method={config.choices.method} learns from items in two views, and the data have one; choose data "
                "with two, such as data=wiki."
            )
        quantizer: Quantizer = build(config.quantizer, bits=config.bits)
        encoder: Encoder = build(config.encoder, input_dim=feature_dim)
        projection = build(config.projection, input_dim=encoder.output_dim, output_dim=quantizer.projection_dim)
        return Hasher(projection, quantizer, encoder)
    if not paired:
        raise InvalidInputError(
            f"method={config.choices.method} takes one view, and the data have {len(feature_dim)}: "
            f"{', '.join(feature_dim)}; choose one of them, such as data.view={next(iter(feature_dim))}, "
            "or a cross-modal method, such as method=cvh."
        )
    quantizers: dict[str, Quantizer] = {view: build(config.quantizer, bits=config.bits) for view in feature_dim}
    encoders: dict[str, Encoder] = {
        view: build(of_view(config.encoder, view, feature_dim, "encoder"), input_dim=size)
        for view, size in feature_dim.items()
    }
    projection = build(
        config.projection,
        input_dims={view: encoder.output_dim for view, encoder in encoders.items()},
        output_dim=quantizers[next(iter(feature_dim))].projection_dim,
    )
    return CrossModalHasher(projection, quantizers, encoders)


def of_view(config: DictConfig, view: str, views: Iterable[str], group: str) -> DictConfig:
    """A view's own part of a group, as `+encoder@encoder.image=convolutional` sets it, or the group's choice for all.

    Raises:
        InvalidInputError: the group names other views alone.
    """
    if view in config:
        own: DictConfig = config[view]
        return own
    if "_target_" not in config:
        raise InvalidInputError(
            f"{group} names {', '.join(map(str, config))}; the data have a view {view} too: set it."
        )
    return OmegaConf.masked_copy(config, [str(key) for key in config if key not in set(views)])


def check_encoders(config: DictConfig) -> None:
    """Raise an error for encoders of images for features that are no pixels, which can be told before any are computed.

    Raises:
        InvalidInputError: the features are not pixels; the message names data to choose instead.
    """
    target = (config.data.get("descriptor") or {}).get("_target_")
    if target is None or issubclass(get_class(target), Pixels):
        return
    if any(issubclass(get_class(entry._target_), ImageEncoder) for entry in _encoders(config)):
        raise InvalidInputError(
            f"encoder={config.choices.encoder} takes pixels, and data={config.choices.data} gives "
            f"{target.rpartition('.')[2]} features; choose data of pixels, such as data=image_folder_pixels or "
            "data=cifar10."
        )


def fetch_encoders(config: DictConfig) -> None:
    """Have every encoder fetch what its start needs beside the data.

    Raises:
        InvalidInputError: what is not there and cannot be fetched.
    """
    for entry in _encoders(config):
        encoder: type[Encoder] = get_class(entry._target_)
        encoder.fetch({str(name): value for name, value in entry.items()})


def _encoders(config: DictConfig) -> list[DictConfig]:
    """The encoder of a config, or those of its views."""
    entries = [config.encoder, *config.encoder.values()]
    return [entry for entry in entries if isinstance(entry, DictConfig) and "_target_" in entry]


def build_augmentation(config: DictConfig | None, feature_dim: int | dict[str, int]) -> nn.Module | None:
    """The augmentation of training items, or of each of their views; None without one."""
    if not config:
        return None
    if isinstance(feature_dim, int):
        one: nn.Module = build(config, input_dim=feature_dim)
        return one
    return ViewAugmentations(
        {
            view: build(of_view(config, view, feature_dim, "augmentation"), input_dim=size)
            for view, size in feature_dim.items()
        }
    )


def build_fit_module(config: DictConfig, truth: FittedTruth) -> FitModule:
    """Build the Lightning module that fits a new hasher on the data of a truth."""
    return FitModule(
        build_hasher(config, truth.data.feature_dim),
        truth,
        build_supervision(config),
        config.seed,
        needs_learnt=config.metrics.database_codes == LEARNT,
    )


def build_supervision(config: DictConfig) -> Affinity | None:
    """Build the definition of neighbours among training items; None if it is that of the truth."""
    return build(config.supervision) if config.get("supervision") else None


def build_score_settings(config: DictConfig) -> ScoreSettings:
    """Build the settings of what to measure."""
    metrics = config.metrics
    user_metrics = tuple(build_user_metrics(config))
    return ScoreSettings(tuple(metrics.at), tuple(metrics.radii), user_metrics, metrics.stable_order)


def build_user_metrics(config: DictConfig) -> list[UserMetric]:
    """The metrics of user models that a config names; none of a run from before there were any.

    Raises:
        InvalidInputError: whatever a metric refuses, with its name.
    """
    metrics = []
    for name, entry in (config.get("user_metric") or {}).items():
        try:
            metrics.append(build(entry))
        except InvalidInputError as error:
            raise InvalidInputError(f"user_metric.{name}: {error}") from error
    return metrics


def chosen_losses(config: DictConfig) -> dict[str, Any]:
    """The losses that a config adds up, by name.

    A method's setting of a loss of its own, where another was chosen in its place, names no loss.

    Raises:
        InvalidInputError: a setting of a loss that does not exist.
    """
    named = {str(name): entry for name, entry in (config.get("loss") or {}).items() if entry is not None}
    for name, entry in named.items():
        if "_target_" not in entry and find_spec(f"deephash.losses.{name}") is None:
            raise InvalidInputError(
                f"loss.{name} sets a loss that does not exist; name one that loss= takes, or give its _target_."
            )
    return {name: entry for name, entry in named.items() if "_target_" in entry}


def build_loss(config: DictConfig, sizes: Mapping[str, Any]) -> WeightedSum:
    """The losses that a config adds up.

    Args:
        config: a run's.
        sizes: what losses with weights of their own may take beside their settings, by the name under which they do:
            code_length, projections, classes (0 where there are no labels), input_dim, generator.

    Raises:
        InvalidInputError: a loss of classes where there are none, one of one view where there are two, or settings
            that one does not have.
    """
    losses, weights = {}, {}
    for name, entry in chosen_losses(config).items():
        weights[name] = entry.get("weight", 1.0)
        settings = OmegaConf.masked_copy(entry, [key for key in entry if key != "weight"])
        takes = inspect.signature(get_object(entry._target_)).parameters
        views = sizes["input_dim"]
        if isinstance(views, Mapping) and "one_view" in getattr(get_object(entry._target_), "requires", ()):
            raise InvalidInputError(
                f"loss={name} looks at features or thresholds of one view, and the data have {len(views)}; choose one "
                "of codes, such as loss=ap."
            )
        if "classes" in takes and sizes["classes"] == 0:
            raise InvalidInputError(
                f"loss={name} learns from labels, and the data have none; choose one of pairs, such as loss=ap."
            )
        losses[name] = build(settings, **{size: value for size, value in sizes.items() if size in takes})
    return WeightedSum(losses, weights)


def build_trainer(config: DictConfig, folder: Path) -> lightning.Trainer:
    """The trainer, with its logger; bars are shown on terminals alone."""
    settings = OmegaConf.to_container(config, resolve=True)
    logger = build(config.logger, save_dir=str(folder), settings=settings)
    return lightning_trainer(
        config,
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


def lightning_trainer(config: DictConfig, **parts: Any) -> lightning.Trainer:
    """A trainer of a config's settings, with these in their place.

    Raises:
        InvalidInputError: devices that are not there, or settings that Lightning refuses.
    """
    try:
        trainer: lightning.Trainer = build(config.trainer, **parts)
    except InvalidInputError:
        raise
    except Exception as error:  # Lightning raises several classes, and Hydra wraps them
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InvalidInputError(
            f"trainer: {reason} (accelerator={config.trainer.get('accelerator')}, devices="
            f"{config.trainer.get('devices')}); choose another, such as trainer=default, a GPU where there is one."
        ) from error
    return trainer
