"""Scoring of a saved run, with its own settings or with other data, splits, truth or depths."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from deephash.data.protocols.base import Split
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import FUNCTIONS, LEARNT, load_learnt
from deephash.evaluation.run_report import log_report, write_report
from deephash.hashers.loading import load as load_hasher
from deephash.io.instantiation import build
from deephash.io.path_settings import make_paths_absolute
from deephash.io.run_folder import RunFolder
from deephash.io.run_sections import check_sections
from deephash.report.tables import replace_nonfinite
from deephash.training.base import RunResult, get_runner_class
from deephash.training.building import build_data, build_trainer
from deephash.training.early_checks import check_labelled, check_settings, choose_score_settings
from deephash.training.encoder_placement import place_encoder
from deephash.training.fit_module import FittedHasher
from deephash.training.quiet_lightning import hide_announcements
from deephash.training.run_steps import evaluation_row, score
from deephash.validation import InvalidInputError

SECTIONS = ("data", "protocol", "truth", "ranking", "metrics", "choices", "trainer", "bits", "seed", "score")
"""Sections of the config that an evaluation needs."""
GROUPS = ("data", "protocol", "truth", "ranking", "user_metric")


def evaluate(config: DictConfig, folder: Path) -> tuple[RunResult, dict[str, Any] | None]:
    """Score a saved run.

    Args:
        config: config composed by `conf/evaluate.yaml`; null values are taken from the run.
        folder: folder for the new result row and figures.

    Returns:
        The result, and the stored row to compare it with. The stored row is None if a setting that affects the figures
        has changed, and for the run of a stream, whose row also scores codes of earlier hash functions.

    Raises:
        InvalidInputError: the run is not complete, or the data do not fit the hasher.
    """
    run = RunFolder(Path(config.run))
    run.check_complete()
    RunFolder(folder).check_scores_go_here()
    stored_row = run.read_row()
    stored_config = run.read_config()
    check_sections(stored_config, run.config, SECTIONS)
    merged = make_paths_absolute(place_encoder(merge_settings(stored_config, config)))
    check_settings(merged)
    same_split = not is_any_set(config, "data", "protocol", "seed")
    hasher = load_hasher(run.hasher)
    run.check_built_on()

    data = build_data(merged, Split.load(run.split) if same_split else None)
    check_labelled(merged, data.are_labelled(), fits=False)
    data.prepare_data()
    data.setup()
    if config.data is None:
        Split.load(run.split).check_data(data.get_digests(data.items), data.given_files)
    if data.feature_dim != hasher.input_dim:
        raise InvalidInputError(
            f"data={merged.choices.data} has features of {data.feature_dim} dimensions; the hasher in {run.path} "
            f"takes {hasher.input_dim}."
        )
    if merged.metrics.database_codes == LEARNT and config.data is not None:
        raise InvalidInputError(
            f"metrics.database_codes={LEARNT} ranks the training items of the run; do not change data."
        )
    truth = FittedTruth(build(merged.truth), data)
    hide_announcements()
    settings, notes = choose_score_settings(merged, truth)
    trainer = build_trainer(merged, folder)
    fitted = FittedHasher(hasher, load_learnt(run.hasher))
    evaluation = score(merged, trainer, fitted, truth, settings)
    row = evaluation_row(merged, evaluation, {})
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        new = RunFolder(folder)
        diagnostics = write_report(row, evaluation, folder, notes, config.get("figures", True))
        row["warnings"] += warn_of_trained_queries(run, config, data, evaluation.roles[0])
        log_report(trainer.logger, row, evaluation, diagnostics, folder)
        new.write_row(replace_nonfinite(row))
    unchanged = (
        get_runner_class(merged).scores_parts
        and same_split
        and not is_any_set(config, "truth", "score", "user_metric")
        and not is_any_set(config.metrics, "at", "radii", "database_codes")
    )
    return RunResult(row, folder), stored_row if unchanged else None


def merge_settings(stored: DictConfig, config: DictConfig) -> DictConfig:
    """Return the settings of the run, overridden by those of the command."""
    merged = OmegaConf.create(OmegaConf.to_container(stored, resolve=True))
    assert isinstance(merged, DictConfig)
    for group in GROUPS:
        if config[group] is not None:
            merged[group] = config[group]
            if group in merged.choices:
                merged.choices[group] = config.choices[group]
    for name in ("seed", "score"):
        if config[name] is not None:
            merged[name] = config[name]
    for name, value in config.metrics.items():
        if value is not None:
            merged.metrics[name] = value
    # Runs of early versions lack this setting.
    merged.metrics.setdefault("database_codes", FUNCTIONS)
    merged.trainer, merged.logger = config.trainer, config.logger
    return merged


def is_any_set(config: DictConfig, *names: str) -> bool:
    """Return whether the command sets any of these settings."""
    return any(config[name] is not None for name in names)


def warn_of_trained_queries(run: RunFolder, config: DictConfig, data: Any, query_role: str) -> list[str]:
    """Return a warning if queries of a new split of the run's data are among the items of the fit."""
    if config.data is not None or not is_any_set(config, "protocol", "seed"):
        return []
    trained = set(Split.load(run.split).role("train").tolist())
    queries = data.split.role(query_role).tolist()
    shared = sum(1 for row in queries if row in trained)
    if not shared:
        return []
    return [f"The hasher was fitted on {shared} of the {len(queries)} queries: its score is too high."]
