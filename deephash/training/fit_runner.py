"""Runs of `train=fit`: the hasher is fitted by the algorithms of its papers, and scored."""

import logging
from dataclasses import fields
from typing import Any, final

from omegaconf import DictConfig

from deephash.evaluation.learnt_codes import LEARNT, check_trained_on
from deephash.evaluation.view_scores import select_roles
from deephash.io.run_folder import RunFolder
from deephash.training.base import Runner
from deephash.training.building import build_fit_module, build_trainer
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import choose_score_settings
from deephash.training.fitting import fit_in_folder, fit_on_device
from deephash.training.joint_runner import JointRunner
from deephash.training.run_steps import evaluation_row, read_data, report_run, save_split, score, start_lightning
from deephash.training.tuning import set_values, tune
from deephash.validation import InvalidInputError

log = logging.getLogger(__name__)


@final
class FitRunner(Runner):
    """Runner that fits the projection, then the quantiser, once.

    Args:
        joint: settings of joint training, accepted so that an experiment can sweep over `train=fit,joint`. They have
            no effect on a fit; the log names them.

    Raises:
        InvalidInputError: joint training does not have one of the settings.
    """

    def __init__(self, **joint: Any) -> None:
        unknown = joint.keys() - {field.name for field in fields(JointRunner)}
        if unknown:
            raise InvalidInputError(
                f"train.{min(unknown)} does not exist: train=fit has no settings; those of train=joint are in "
                "conf/train/joint.yaml."
            )
        if joint:
            log.info("train=fit has no settings; those of joint training have no effect: %s", ", ".join(sorted(joint)))

    def run(self, config: DictConfig, run: RunFolder, cache: DatasetCache) -> dict[str, Any]:
        """Carry out a run, or continue an interrupted one; see `Runner.run`."""
        start_lightning(config)
        data = read_data(config, run, cache)
        if config.metrics.database_codes == LEARNT:
            check_trained_on(data, select_roles(config.score)[1])
        truth = cache.truth(config, data)

        # The hasher is built before the trainer, so that invalid settings are reported before a logger starts.
        module = build_fit_module(config, truth)
        trainer = build_trainer(config, run.path)
        settings, notes = choose_score_settings(config, truth)
        save_split(run, data, trainer.is_global_zero)
        tuned = {}
        if config.get("tune"):
            device = trainer.strategy.root_device
            tuned = tune(
                config,
                run,
                truth,
                settings,
                device,
                lambda candidate, _: fit_on_device(build_fit_module(candidate, truth), data, device),
                trainer.is_global_zero,
            )
            config = set_values(config, tuned)
            module = build_fit_module(config, truth)

        fitted = fit_in_folder(run.hasher, trainer, module, data)
        evaluation = score(config, trainer, fitted, truth, settings)
        row = evaluation_row(config, evaluation, fitted.seconds) | ({"tuned": tuned} if tuned else {})
        report_run(config, run, trainer, row, evaluation, notes)
        return row
