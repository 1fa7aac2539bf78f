"""Runs of `train=joint`: encoder, projection and quantiser are trained together, starting from the fitted hasher."""

import logging
import sys
from dataclasses import dataclass, fields
from typing import Any, ClassVar, final

import lightning
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from deephash.data.batches import EpochBatches
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.scoring import ScoreSettings
from deephash.hashers.hasher_views import AnyHasher
from deephash.hashers.loading import load
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.io.sealed_files import write_sealed_json
from deephash.training.base import Runner
from deephash.training.building import (
    build_augmentation,
    build_fit_module,
    build_lightning_trainer,
    build_loss,
    build_supervision,
    build_trainer,
)
from deephash.training.checkpoint import SafetensorsCheckpoint, latest
from deephash.training.constraints import plain_hasher
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import check_figure, choose_score_settings, count_searched_items
from deephash.training.fit_module import FittedHasher
from deephash.training.fitting import IMAGES, fit_in_folder, fit_on_device, load_fitted
from deephash.training.joint_module import PAIRS, JointModule
from deephash.training.joint_settings import JointSettings
from deephash.training.keep_best import KeepBest, read_history, summarise_history
from deephash.training.quiet_lightning import quiet_lightning
from deephash.training.run_steps import evaluation_row, read_data, report_run, save_split, score, start_lightning
from deephash.training.throughput import Throughput
from deephash.training.tuning import set_values, tune
from deephash.validation import InvalidInputError, check_count

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class JointRunner(JointSettings, Runner):
    """Runner that fits a hasher, trains it end to end by gradient, and keeps the best epoch by validation queries.

    Args:
        select_by: validation metric that chooses the fitted hasher or the epoch to keep; None keeps the last epoch.
        patience: number of validations without a better score after which training stops; None never stops early.
        validate_every: maximum number of epochs between validations. The last epoch is always validated.
        holdout: share of the training part to hold out for validation, if the protocol has no validation parts.
        compile: whether to compile the module with `torch.compile`.
    """

    minimises_loss: ClassVar[bool] = True

    select_by: str | None = "mAP"
    patience: int | None = None
    validate_every: int = 5
    holdout: float = 0.1
    compile: bool = False

    def run(self, config: DictConfig, run: RunFolder, cache: DatasetCache) -> dict[str, Any]:
        """Carry out a run, or continue an interrupted one; see `Runner.run`."""
        start_lightning(config)
        data = read_data(config, run, cache)
        if self.select_by is not None and not data.has_validation:
            data.hold_out(self.holdout)
            log.info("train=joint: %d training items are held out to choose the epoch", data.held_out)
        truth = cache.truth(config, data)

        # The hasher is built before the trainer, so that invalid settings are reported before a logger starts.
        module = build_fit_module(config, truth)
        trainer = build_trainer(config, run.path)
        settings, notes = choose_score_settings(config, truth)
        self.check(config, module.hasher, truth, settings)
        save_split(run, data, trainer.is_global_zero)
        runner, tuned = self, {}
        if config.get("tune"):
            device = trainer.strategy.root_device

            def train_candidate(candidate: DictConfig, folder: RunFolder) -> FittedHasher:
                fitted = fit_on_device(build_fit_module(candidate, truth), data, device)
                candidate_runner: JointRunner = build(candidate.train)
                return candidate_runner.train(candidate, folder, None, fitted, truth, settings)

            tuned = tune(config, run, truth, settings, device, train_candidate, trainer.is_global_zero)
            config = set_values(config, tuned)
            runner, module = build(config.train), build_fit_module(config, truth)

        if run.fit_seconds.exists():
            fitted = load_fitted(run.hasher)
        else:
            start = fit_in_folder(run.start, trainer, module, data)
            fitted = runner.train(config, run, trainer.logger, start, truth, settings)
        evaluation = score(config, trainer, fitted, truth, settings)
        row = evaluation_row(config, evaluation, fitted.seconds, fitted.images_per_second)
        history = read_history(run.history)
        if history is not None:
            row["training"] = summarise_history(history, run.history)
        if tuned:
            row["tuned"] = tuned
        report_run(config, run, trainer, row, evaluation, notes, history)
        return row

    def train(
        self,
        config: DictConfig,
        run: RunFolder,
        logger: Logger | None,
        start: FittedHasher,
        truth: FittedTruth,
        settings: ScoreSettings,
    ) -> FittedHasher:
        """Train a fitted hasher end to end, or continue an interrupted training, and save the best epoch.

        Args:
            config: config of the run.
            run: folder for the state and the history of the training, and for the best hasher.
            logger: logger of losses and validation scores; None logs them only to the history.
            start: fitted hasher.
            truth: ground truth.
            settings: settings of the final scoring.
        """
        joint = self.build_module(config, start.hasher, truth, settings, start.hasher.distance.maximum, run)
        joint.prepare()
        choose = self.select_by is not None
        # Lightning's own checkpoints are pickles; these are not.
        checkpoints = ModelCheckpoint(
            run.checkpoint.parent, run.checkpoint.stem, save_on_train_epoch_end=True, enable_version_counter=False
        )
        checkpoints.FILE_EXTENSION = run.checkpoint.suffix
        throughput = Throughput()
        callbacks: list[lightning.Callback] = [checkpoints, throughput]
        if self.select_by is not None:
            callbacks.insert(0, KeepBest(run.best, run.history, self.select_by, self.patience))
        checkpoint = latest(run.checkpoint)
        trainer = build_lightning_trainer(
            config,
            logger=logger or False,
            default_root_dir=str(run.path),
            enable_progress_bar=sys.stderr.isatty(),
            max_epochs=self.epochs,
            check_val_every_n_epoch=largest_divisor(self.epochs, self.validate_every),
            # The start is scored before the first step; the history of a resumed training has that score already.
            num_sanity_val_steps=-1 if choose and not checkpoint else 0,
            limit_val_batches=1.0 if choose else 0,
            enable_checkpointing=True,
            callbacks=[*user_callbacks(config), *callbacks],
            plugins=[SafetensorsCheckpoint()],
        )
        module: Any = torch.compile(joint) if self.compile else joint
        with quiet_lightning(), truth.data.batched(joint.training_batches):
            trainer.fit(module, datamodule=truth.data, ckpt_path=str(checkpoint) if checkpoint else None)
        # All processes must copy the last hasher, because its weights may be sharded.
        last = None if choose else plain_hasher(joint.hasher)
        if trainer.is_global_zero:
            (last or load(run.best)).save(run.hasher)
            seconds = {"fit": start.seconds["fit"], "joint": joint.seconds}
            rate = throughput.images_per_second
            write_sealed_json(run.fit_seconds, seconds | ({} if rate is None else {IMAGES: rate}))
        trainer.strategy.barrier()
        return load_fitted(run.hasher)

    def check(self, config: DictConfig, hasher: AnyHasher, truth: FittedTruth, settings: ScoreSettings) -> None:
        """Raise an error before the fit if joint training is impossible with these settings, losses or data.

        Args:
            config: config of the run.
            hasher: unfitted hasher.
            truth: ground truth of the data, after items were held out.
            settings: settings of the final scoring.

        Raises:
            InvalidInputError: a setting is invalid; the message names it.
        """
        with torch.random.fork_rng(devices=[]):  # The weights drawn here are not those that are trained.
            # The largest distance is known only after the fit. The code length replaces it; no loss rejects a length.
            joint = self.build_module(config, hasher, truth, settings, config.bits)
        data = truth.data
        rows = torch.from_numpy(data.ids("train"))
        labels = None if data.items.labels is None else data.items.labels[rows]
        joint.check_losses(labels)
        pairs = PAIRS in joint.loss.requires
        items = len(joint.get_pairs()) if pairs else len(rows)
        EpochBatches(items, self.batch_size, joint.seed, 0, 1, None if pairs else self.order, labels)
        try:
            self.optimizer([torch.nn.Parameter(torch.zeros(1))])
            self.schedule(0.5)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"train.optimizer or train.schedule: {error}; see conf/train/joint.yaml."
            ) from error
        largest_divisor(self.epochs, self.validate_every)
        if self.patience is not None:
            check_count(self.patience, "train.patience")
        if self.select_by is not None:
            check_figure(self.select_by, "train.select_by", settings, data)
        build_lightning_trainer(
            config, logger=False, max_epochs=1, callbacks=user_callbacks(config), plugins=[SafetensorsCheckpoint()]
        )

    def build_module(
        self,
        config: DictConfig,
        hasher: AnyHasher,
        truth: FittedTruth,
        settings: ScoreSettings,
        code_length: int,
        run: RunFolder | None = None,
    ) -> JointModule:
        """Build the Lightning module of joint training.

        Args:
            config: config of the run.
            hasher: hasher to train.
            truth: ground truth.
            settings: settings of the final scoring.
            code_length: largest distance of the codes.
            run: folder for a batch whose loss is not finite.
        """
        data = truth.data
        sizes = {
            "code_length": code_length,
            "projections": hasher.projection.output_dim,
            "classes": data.classes,
            "items": len(data.ids("train")),
            "input_dim": hasher.input_dim,
            "generator": torch.Generator().manual_seed(config.seed),
        }
        searched = count_searched_items(data.part("validation_database").features) if data.has_validation else 0
        return JointModule(
            hasher,
            truth,
            build(config.ranking),
            settings.within(searched),
            learning=JointSettings(**{field.name: getattr(self, field.name) for field in fields(JointSettings)}),
            loss=build_loss(config, sizes),
            supervision=build_supervision(config),
            augmentation=build_augmentation(config.get("augmentation"), data.feature_dim),
            seed=config.seed,
            failed_batch=None if run is None else run.path / "failed_batch.json",
        )


def user_callbacks(config: DictConfig) -> list[lightning.Callback]:
    """Build the callbacks that the trainer's config names."""
    return [instantiate(callback) for callback in config.trainer.get("callbacks") or []]


def largest_divisor(epochs: int, at_most: int) -> int:
    """Return the largest divisor of `epochs` up to `at_most`: with that interval, the last epoch is validated too.

    Raises:
        InvalidInputError: a number is below 1.
    """
    check_count(at_most, "train.validate_every")
    check_count(epochs, "train.epochs")
    return max(step for step in range(1, min(at_most, epochs) + 1) if epochs % step == 0)
