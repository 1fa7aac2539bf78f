"""Construction of objects from a config: data, hasher, losses, Lightning module and trainer."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
from hydra.utils import get_class, get_object
from omegaconf import DictConfig, OmegaConf

from deephash.affinity.base import Affinity
from deephash.augmentations.base import Augmentation
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
from deephash.losses.base import Loss
from deephash.losses.weighted_sum import WeightedSum
from deephash.metrics.user_metric import UserMetric
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.training.encoder_placement import get_hasher_encoder, is_described
from deephash.training.fit_module import FitModule
from deephash.validation import InvalidInputError, check_number

# The loss that sums the other losses over prefixes of the codes.
NESTED = "nested"


def build_data(config: DictConfig, split: Split | None = None) -> HashingDataModule:
    """Build the data module with its protocol, and with an existing split if one is given."""
    data: HashingDataModule = build(config.data, protocol=build(config.protocol), seed=config.seed, split=split)
    data.given_files = describe_paths(config.data, "data")
    return data


def build_hasher(config: DictConfig, feature_dim: int | dict[str, int]) -> Hasher | CrossModalHasher:
    """Build an unfitted hasher; the quantiser, built first, determines the number of projections.

    Raises:
        InvalidInputError: the method takes one view and the data have two, or the reverse.
    """
    paired = issubclass(get_class(config.projection._target_), PairedProjection)
    encoder_config = get_hasher_encoder(config)
    if isinstance(feature_dim, int):
        if paired:
            raise InvalidInputError(
                f"method={config.choices.method} learns from items in two views, and the data have one; choose data "
                "with two, such as data=wiki."
            )
        quantizer: Quantizer = build(config.quantizer, bits=config.bits)
        encoder: Encoder = build(encoder_config, input_dim=feature_dim)
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
        view: build(select_view(encoder_config, view, feature_dim, "encoder"), input_dim=size)
        for view, size in feature_dim.items()
    }
    projection = build(
        config.projection,
        input_dims={view: encoder.output_dim for view, encoder in encoders.items()},
        output_dim=quantizers[next(iter(feature_dim))].projection_dim,
    )
    return CrossModalHasher(projection, quantizers, encoders)


def select_view(config: DictConfig, view: str, views: Iterable[str], group: str) -> DictConfig:
    """Return the config of a group for one view.

    A view can have its own entry, set by `+encoder@encoder.image=convolutional`; the other views share one.

    Raises:
        InvalidInputError: the group only has entries of other views.
    """
    if view in config:
        view_config: DictConfig = config[view]
        return view_config
    if "_target_" not in config:
        raise InvalidInputError(
            f"{group} has settings for {', '.join(map(str, config))}, but none for the view {view} of the data; set it."
        )
    return OmegaConf.masked_copy(config, [str(key) for key in config if key not in set(views)])


def check_encoders(config: DictConfig) -> None:
    """Raise an error before features are computed if an encoder needs pixels and the features are not pixels.

    Raises:
        InvalidInputError: the features are not pixels; the message names data to choose instead.
    """
    target = (config.data.get("descriptor") or {}).get("_target_")
    if target is None or issubclass(get_class(target), Pixels) or is_described(config):
        return
    if any(issubclass(get_class(entry._target_), ImageEncoder) for entry in _list_encoders(config)):
        raise InvalidInputError(
            f"encoder={config.choices.encoder} takes pixels, and data={config.choices.data} gives "
            f"{target.rpartition('.')[2]} features; choose data of pixels, such as data=image_folder_pixels or "
            "data=cifar10."
        )


def fetch_encoders(config: DictConfig) -> None:
    """Download the files that the encoders need, such as pretrained weights.

    Raises:
        InvalidInputError: a download fails, or a file does not exist.
    """
    for entry in _list_encoders(config):
        encoder: type[Encoder] = get_class(entry._target_)
        encoder.fetch({str(name): value for name, value in entry.items()})


def _list_encoders(config: DictConfig) -> list[DictConfig]:
    """Return the config of the encoder, or of the encoders of the views."""
    entries = [config.encoder, *config.encoder.values()]
    return [entry for entry in entries if isinstance(entry, DictConfig) and "_target_" in entry]


def build_augmentation(
    config: DictConfig | None, feature_dim: int | dict[str, int]
) -> Augmentation | ViewAugmentations | None:
    """Build the augmentation of training items, one for each view; return None if the config has no augmentation."""
    if not config:
        return None
    if isinstance(feature_dim, int):
        augmentation: Augmentation = build(config, input_dim=feature_dim)
        return augmentation
    return ViewAugmentations(
        {
            view: build(select_view(config, view, feature_dim, "augmentation"), input_dim=size)
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
    """Build the settings of the scoring."""
    metrics = config.metrics
    user_metrics = tuple(build_user_metrics(config))
    return ScoreSettings(tuple(metrics.at), tuple(metrics.radii), user_metrics, metrics.stable_order)


def build_user_metrics(config: DictConfig) -> list[UserMetric]:
    """Build the metrics of user models; none for a config of an early version, which lacks `user_metric`.

    Raises:
        InvalidInputError: the settings of a metric are invalid.
    """
    metrics = []
    for name, entry in (config.get("user_metric") or {}).items():
        try:
            metrics.append(build(entry))
        except InvalidInputError as error:
            raise InvalidInputError(f"user_metric.{name}: {error}") from error
    return metrics


def select_losses(config: DictConfig) -> dict[str, Any]:
    """Return the configs of the chosen losses by name.

    A method may set a parameter of its default loss. If another loss is chosen, that entry has no `_target_` and is
    left out.

    Raises:
        InvalidInputError: an entry sets a loss that does not exist.
    """
    named = {str(name): entry for name, entry in (config.get("loss") or {}).items() if entry is not None}
    for name, entry in named.items():
        if "_target_" not in entry and find_spec(f"deephash.losses.{name}") is None:
            raise InvalidInputError(
                f"loss.{name} sets a loss that does not exist; choose one of conf/loss, or set its _target_."
            )
    return {name: entry for name, entry in named.items() if "_target_" in entry}


def build_loss(config: DictConfig, sizes: Mapping[str, Any]) -> WeightedSum:
    """Build the weighted sum of the chosen losses, each of them summed over prefixes if `nested` is chosen too.

    Args:
        config: config of a run.
        sizes: arguments that losses may take besides their settings: code_length, projections, classes (0 without
            labels), items, input_dim and generator.

    Raises:
        InvalidInputError: a loss needs classes and there are none, a loss takes one view and there are two, a setting
            is unknown, or `nested` is the only loss.
    """
    losses, weights = {}, {}
    chosen = select_losses(config)
    nested = chosen.pop(NESTED, None)
    if nested is not None and not chosen:
        raise InvalidInputError(
            f"loss={NESTED} sums another loss over prefixes of the codes, and there is none; name it too, such as "
            f"loss=[csq,{NESTED}]."
        )
    for name, entry in chosen.items():
        weights[name] = entry.get("weight", 1.0)
        takes = inspect.signature(get_object(entry._target_)).parameters
        views = sizes["input_dim"]
        if isinstance(views, Mapping) and "one_view" in getattr(get_object(entry._target_), "requires", ()):
            raise InvalidInputError(
                f"loss={name} uses features or thresholds of one view, and the data have {len(views)} views; choose a "
                "loss of codes, such as loss=ap."
            )
        if "classes" in takes and sizes["classes"] == 0:
            raise InvalidInputError(
                f"loss={name} learns from labels, and the data have none; choose a loss of pairs, such as loss=ap."
            )
        if nested is None:
            losses[name] = _build_one_loss(entry, sizes)
            continue
        losses[name] = _build_one_loss(nested, {**sizes, "of": partial(_build_loss_of_prefix, entry, sizes)})
        for term, weight in ((name, weights[name]), (NESTED, nested.get("weight", 1.0))):
            check_number(weight, f"loss.{term}.weight")
        weights[name] *= nested.get("weight", 1.0)
    return WeightedSum(losses, weights)


def _build_one_loss(entry: DictConfig, sizes: Mapping[str, Any]) -> Loss:
    """Build a loss from its settings and the sizes that it takes; its weight is one of the sum."""
    settings = OmegaConf.masked_copy(entry, [str(key) for key in entry if key != "weight"])
    takes = inspect.signature(get_object(entry._target_)).parameters
    loss: Loss = build(settings, **{size: value for size, value in sizes.items() if size in takes})
    return loss


def _build_loss_of_prefix(entry: DictConfig, sizes: Mapping[str, Any], bits: int) -> Loss:
    """Build a loss of the first bits, of which each has one projection."""
    return _build_one_loss(entry, {**sizes, "code_length": bits, "projections": bits})


def build_trainer(config: DictConfig, folder: Path) -> lightning.Trainer:
    """Build the trainer with its logger; progress bars are only shown on terminals."""
    settings = OmegaConf.to_container(config, resolve=True)
    logger = build(config.logger, save_dir=str(folder), settings=settings)
    return build_lightning_trainer(
        config,
        logger=logger or False,
        default_root_dir=str(folder),
        enable_progress_bar=sys.stderr.isatty(),
        # Settings for training by gradient do not apply to a fit in one step, or to scoring.
        max_epochs=1,
        accumulate_grad_batches=1,
        gradient_clip_val=None,
        precision="32-true",
        callbacks=None,
    )


def build_lightning_trainer(config: DictConfig, **parts: Any) -> lightning.Trainer:
    """Build a trainer from a config, with some settings replaced by `parts`.

    Raises:
        InvalidInputError: a device does not exist, or Lightning rejects a setting.
    """
    try:
        trainer: lightning.Trainer = build(config.trainer, **parts)
    except InvalidInputError:
        raise
    except Exception as error:  # Lightning raises several classes of errors, and Hydra wraps them.
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InvalidInputError(
            f"trainer: {reason} (accelerator={config.trainer.get('accelerator')}, devices="
            f"{config.trainer.get('devices')}); choose another trainer, such as trainer=default."
        ) from error
    return trainer
