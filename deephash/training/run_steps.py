"""Steps that the runners share: reading the data, scoring, the result row, and the files of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Split
from deephash.data.streamed_images import PixelRows
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.hashing_module import HashingModule
from deephash.evaluation.learnt_codes import LEARNT, check_learnt
from deephash.evaluation.run_report import log_report, write_report
from deephash.evaluation.scoring import ScoreSettings
from deephash.evaluation.text_references import score_references
from deephash.evaluation.view_scores import Evaluation
from deephash.io.files import write_json
from deephash.io.instantiation import build
from deephash.io.run_folder import RunFolder
from deephash.report.drawing import save_figure
from deephash.report.learning_curve import draw_learning_curve
from deephash.report.summary import format_title
from deephash.report.tables import replace_nonfinite
from deephash.training.base import get_runner_class
from deephash.training.building import build_data, build_lightning_trainer, select_losses
from deephash.training.dataset_cache import DatasetCache
from deephash.training.early_checks import check_labelled
from deephash.training.environment import describe_environment
from deephash.training.fit_module import FittedHasher
from deephash.training.quiet_lightning import hide_announcements, quiet_lightning


def start_lightning(config: DictConfig) -> None:
    """Seed all random generators, and check that the device of the trainer exists.

    Raises:
        InvalidInputError: there is no such device.
    """
    hide_announcements()
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    if config.trainer.get("accelerator") not in ("auto", "cpu"):
        build_lightning_trainer(config, logger=False, callbacks=None)


def read_data(config: DictConfig, run: RunFolder, cache: DatasetCache) -> HashingDataModule:
    """Read the data of a run, with the split of the run if its folder holds one.

    Raises:
        InvalidInputError: data are invalid, or lack labels that the run needs.
    """
    data = build_data(config, Split.load(run.split) if run.split.exists() else None)
    check_labelled(config, data.are_labelled())  # Reading may compute descriptors of thousands of images.
    cache.read(config, data)
    check_labelled(config, data.items.labels is not None)
    return data


def save_split(run: RunFolder, data: HashingDataModule, is_writer: bool = True) -> None:
    """Save the split of a run, unless its folder holds it already."""
    if is_writer and not run.split.exists():
        data.split.save(run.split)


def score(
    config: DictConfig, trainer: lightning.Trainer, fitted: FittedHasher, truth: FittedTruth, settings: ScoreSettings
) -> Evaluation:
    """Score a fitted hasher on the test queries, or on the validation queries if the config asks for it.

    Raises:
        InvalidInputError: the database is to be ranked by learnt codes, and there are none.
    """
    learnt = check_learnt(fitted.learnt, fitted.hasher) if config.metrics.database_codes == LEARNT else None
    module = HashingModule(fitted.hasher, truth, build(config.ranking), settings, learnt)
    loop = trainer.validate if config.score == "validation" else trainer.test
    with quiet_lightning():
        loop(module, datamodule=truth.data, verbose=False)
    assert module.evaluation is not None
    return module.evaluation


def result_row(
    config: DictConfig,
    data: HashingDataModule,
    *,
    metrics: Mapping[str, float],
    sizes: Mapping[str, int],
    seconds: Mapping[str, float],
    depths: Sequence[int] = (),
    skipped_queries: int = 0,
    **further: Any,
) -> dict[str, Any]:
    """Return the result row of a run of any mode.

    Args:
        config: config of the run.
        data: data whose parts were scored.
        metrics: metrics by name.
        sizes: number of items by role.
        seconds: durations by step.
        depths: depths k of the metrics.
        skipped_queries: number of queries without a relevant item.
        further: entries that only this mode has.
    """
    return {
        **OmegaConf.to_container(config.choices, resolve=True),  # type: ignore[dict-item]
        # Hydra records one choice of a group, but a run may have several losses.
        "loss": "+".join(select_losses(config)) if get_runner_class(config).minimises_loss else None,
        "bits": config.bits,
        "score": config.score,
        "database_codes": config.metrics.database_codes,
        "k": list(depths),
        "seed": config.seed,
        "split": data.split.hash,
        "sizes": dict(sizes),
        "feature_dim": data.feature_dim,
        "metrics": dict(metrics),
        "skipped_queries": skipped_queries,
        **further,
        "seconds": dict(seconds),
    }


def evaluation_row(
    config: DictConfig, evaluation: Evaluation, seconds: Mapping[str, float], images_per_second: float | None = None
) -> dict[str, Any]:
    """Return the result row of a scored hasher.

    Args:
        config: config of the run.
        evaluation: its scores.
        seconds: durations of the steps before scoring.
        images_per_second: speed of joint training on images in files; None if there was none.
    """
    data, metrics = evaluation.truth.data, evaluation.results
    skipped = int(metrics.pop("skipped_queries"))
    further: dict[str, Any] = {}
    if isinstance(data.items.features, PixelRows):
        encoded = sum(len(data.ids(role)) for role in evaluation.roles)
        trained = {} if images_per_second is None else {"joint": images_per_second}
        further["images_per_second"] = {**trained, "encode": encoded / evaluation.seconds["encode"]}
    if (config.get("published") or {}).get("figure") in metrics:
        further["published_figure"] = config.published.figure
    references = score_references(evaluation)
    if references:
        further["references"] = references
    return result_row(
        config,
        data,
        metrics=metrics,
        sizes={role: len(data.ids(role)) for role in ("train", *evaluation.roles)},
        seconds={**seconds, **evaluation.seconds},
        depths=evaluation.settings.at,
        skipped_queries=skipped,
        **further,
    )


def report_run(
    config: DictConfig,
    run: RunFolder,
    trainer: lightning.Trainer,
    row: dict[str, Any],
    evaluation: Evaluation,
    notes: Sequence[str],
    history: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a run and, last, its result row, in the first process only.

    Args:
        config: config of the run.
        run: folder of the run.
        trainer: trainer of the run, with its logger.
        row: result row, to which warnings are added.
        evaluation: scores.
        notes: warnings from before the run was scored.
        history: history of a joint training.
    """
    if not trainer.is_global_zero:
        return
    write_json(run.path / "environment.json", describe_environment())
    figures = config.get("figures", True)
    diagnostics = write_report(row, evaluation, run.path, notes, figures)
    if figures and history:
        save_figure(draw_learning_curve(history, format_title(row)), run.path / "learning_curve.png")
    log_report(trainer.logger, row, evaluation, diagnostics, run.path)
    run.write_row(replace_nonfinite(row))
