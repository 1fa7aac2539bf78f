"""Choice of a method's settings on the validation queries of a split, before the test queries are used.

`train.py method=ksh tune=ksh protocol=five_way`: every candidate is fitted on the training part and scored on the
validation queries against the validation database. The best is then fitted again and scored like any run.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.scoring import ScoreSettings
from deephash.evaluation.view_scores import VALIDATION_ROLES, encode_part, score_views
from deephash.hashers.hasher_views import AnyHasher
from deephash.io.files import reading
from deephash.io.instantiation import build
from deephash.io.progress import track
from deephash.io.run_folder import RunFolder
from deephash.io.sealed_files import read_sealed_json, write_sealed_json
from deephash.metrics.user_metric import find_maximised_figures
from deephash.ranking.base import RankingEngine
from deephash.report.tables import format_value, replace_nonfinite
from deephash.training.fit_module import FittedHasher
from deephash.validation import InvalidInputError, check_choice, check_count

log = logging.getLogger(__name__)

# Sections that a grid may set: the fitted parts, but not data, split, truth, code length or seed.
TUNED_PARTS = ("encoder", "projection", "quantizer", "relaxation", "supervision", "loss", "train")


def list_candidates(tune: DictConfig, seed: int) -> list[dict[str, Any]]:
    """Return the candidates: values to try, by config key.

    Args:
        tune: `parameters`, lists of values by config key, and `samples`, the number of points of their grid to draw;
            null for the whole grid.
        seed: seed of that draw.

    Returns:
        Points of the grid in order; the last key varies fastest.

    Raises:
        InvalidInputError: there are no parameters, a parameter has no list of values, or samples is below 1.
    """
    settings: Any = OmegaConf.to_container(tune, resolve=True)
    parameters = dict(_flatten(settings.get("parameters") or {}))
    if not parameters:
        raise InvalidInputError("tune.parameters={}; expected config keys with lists of values, as in conf/tune.")
    for key, values in parameters.items():
        if not isinstance(values, list) or not values:
            raise InvalidInputError(f"tune.parameters has {key}={values!r}; expected a list of values to try.")
    total, samples = math.prod(map(len, parameters.values())), tune.get("samples")
    chosen: list[int] = list(range(total))
    if samples is not None:
        check_count(samples, "tune.samples")
        if samples < total:
            chosen = sorted(np.random.default_rng(seed).choice(total, samples, replace=False).tolist())
    lengths = [len(values) for values in parameters.values()]
    places = (np.unravel_index(point, lengths) for point in chosen)
    return [
        {key: values[place] for (key, values), place in zip(parameters.items(), point, strict=True)} for point in places
    ]


def set_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a copy of a run's config with these values.

    Raises:
        InvalidInputError: the run does not have a key, or tuning may not set it.
    """
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for key, value in values.items():
        part, _, name = key.partition(".")
        check_choice(part, TUNED_PARTS, f"the section of {key} in tune.parameters")
        parent = OmegaConf.select(changed, key.rpartition(".")[0])
        if not name or not isinstance(parent, DictConfig) or key.rpartition(".")[2] not in parent:
            known = [str(setting) for setting in parent if setting != "_target_"] if parent is not None else []
            raise InvalidInputError(
                f"tune.parameters has {key}, which is not a setting of this run; its settings there are: "
                f"{', '.join(known) or 'none'}. Choose the grid of the run's own method."
            )
        OmegaConf.update(changed, key, value, merge=False)
    return changed  # type: ignore[return-value]


def tune(
    config: DictConfig,
    run: RunFolder,
    truth: FittedTruth,
    settings: ScoreSettings,
    device: torch.device,
    learn: Callable[[DictConfig, RunFolder], FittedHasher],
    is_writer: bool = True,
) -> dict[str, Any]:
    """Score every candidate on the validation queries, and choose the best, or the first of several best ones.

    Args:
        config: config of the run, with `tune`.
        run: folder of the run. Candidates that its `tune.json` records are not tried again.
        truth: ground truth.
        settings: settings of the scoring.
        device: device on which codes are ranked.
        learn: function that learns a candidate's hasher from its config, in a folder of its own.
        is_writer: whether this process writes the record.

    Returns:
        The chosen values by config key. `tune.json` holds the values, score, metrics and seconds of each candidate. A
        candidate that cannot be fitted has an error in place of its score.

    Raises:
        InvalidInputError: the grid does not fit the run, the split has no validation parts, the metric does not exist,
            or no candidate can be fitted.
    """
    points = list_candidates(config.tune, config.seed)
    tried = [(values, set_values(config, values)) for values in points]
    if not truth.data.has_validation:
        raise InvalidInputError(
            f"tune chooses on validation queries, and protocol={config.choices.protocol} has none; choose one that "
            "has, such as protocol=five_way."
        )
    metric, ranking = str(config.tune.get("metric") or "mAP"), build(config.ranking)
    record = read_record(run.tuning, points) if run.tuning.exists() else []
    for number, (values, candidate) in enumerate(track(tried, "Tuning")):
        if any(entry["values"] == values for entry in record):
            continue
        started = time.perf_counter()
        try:
            fitted = learn(candidate, RunFolder(run.path / "tuning" / str(number)))
            metrics = score_on_validation(fitted.hasher.to(device), truth, ranking, settings, device)
        except InvalidInputError as error:
            entry: dict[str, Any] = {"values": values, "score": None, "error": " ".join(str(error).split())}
        else:
            check_choice(metric, find_maximised_figures(metrics), "tune.metric")
            entry = {"values": values, "score": metrics[metric], "metrics": metrics}
        entry["seconds"] = time.perf_counter() - started
        record.append(entry)
        log.info(
            "tune: %s: %s", format_values(values), entry.get("error") or f"{metric} {format_value(entry['score'])}"
        )
        if is_writer:
            write_sealed_json(run.tuning, {"metric": metric, "chosen": None, "candidates": record})
    chosen = choose_best(record)
    if is_writer:
        write_sealed_json(run.tuning, {"metric": metric, "chosen": chosen, "candidates": record})
    return chosen


def read_record(path: Path, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read the candidates that were tried already.

    Args:
        path: file of the record.
        points: values of all candidates of the run.

    Raises:
        InvalidInputError: the file is damaged or belongs to another run.
    """
    stored = read_sealed_json(path, "tuned values")
    with reading(path, "tuned values"):
        for entry in stored["candidates"]:
            if entry["values"] not in points or not isinstance(entry["score"], int | float | None):
                raise ValueError(f"a candidate is {entry!r}")
        return list(stored["candidates"])


def choose_best(record: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values with the highest score, the first if several are equal.

    Raises:
        InvalidInputError: no candidate has a score.
    """
    scored = [entry for entry in record if entry["score"] is not None]
    if not scored:
        reason = next((entry["error"] for entry in record if "error" in entry), "no score is a number")
        raise InvalidInputError(f"0 of {len(record)} candidates of tune could be scored; the first error: {reason}")
    chosen: dict[str, Any] = max(scored, key=lambda entry: entry["score"])["values"]
    return chosen


def score_on_validation(
    hasher: AnyHasher, truth: FittedTruth, ranking: RankingEngine, settings: ScoreSettings, device: torch.device
) -> dict[str, float | None]:
    """Score the validation queries against the validation database.

    Args:
        hasher: fitted hasher on the device.
        truth: ground truth.
        ranking: engine that ranks the codes.
        settings: settings of the scoring. Depths above the size of the database are left out.
        device: device of the codes.
    """
    queries, database = (encode_part(hasher, truth.data.part(role), device) for role in VALIDATION_ROLES)
    within = settings.within(min(map(len, database.values())))
    evaluation = score_views(hasher, queries, database, truth, VALIDATION_ROLES, ranking, within)
    values: dict[str, float | None] = replace_nonfinite(evaluation.results)
    del values["skipped_queries"]
    return values


def format_values(values: Mapping[str, Any]) -> str:
    """Format values in one line, such as "projection.smoothing=0.1"."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _flatten(mapping: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield keys joined by dots, and values, from nested mappings or dotted keys."""
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
