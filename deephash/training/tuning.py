"""Choosing a method's settings on the validation queries of a split, before anything is scored on its test queries.

`train.py method=ksh tune=ksh protocol=five_way`: every candidate is fitted on the training part, and its validation
queries are ranked against the validation database; the best is then fitted again and scored as any run.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from deephash.data.base import HashingDataModule
from deephash.data.blocks import block_loader
from deephash.evaluation.hashing_module import HashingModule, all_results
from deephash.hashers.loading import load as load_hasher
from deephash.io.files import reading
from deephash.io.progress import track
from deephash.io.run_folder import RunFolder
from deephash.io.sealed_files import read_sealed_json, write_sealed_json
from deephash.metrics.user_metric import find_maximised_figures
from deephash.ranking.relevance import Relevance
from deephash.report.tables import format_value
from deephash.training.building import build_module
from deephash.training.fit_module import FitModule
from deephash.training.joint_run import learns_jointly, train_jointly
from deephash.validation import InvalidInputError, check_choice, check_count

log = logging.getLogger(__name__)

# What a grid may set: what is fitted. Data, split, truth, code length and seed are the question, not the answer.
TUNED_PARTS = ("encoder", "projection", "quantizer", "relaxation", "supervision", "loss", "train")
VALIDATION = ("validation_database", "validation_query")


def candidates(tune: DictConfig, seed: int) -> list[dict[str, Any]]:
    """The values to try, by config key.

    Args:
        tune: `parameters`, a mapping of config keys to lists of values; `samples`, how many points of their grid to
            draw (null: the whole grid).
        seed: of that draw.

    Returns:
        Points of the grid in its order, the last key varying fastest.

    Raises:
        InvalidInputError: no parameters, one without a list of values, or a wrong number of samples.
    """
    settings: Any = OmegaConf.to_container(tune, resolve=True)
    parameters = dict(_flat(settings.get("parameters") or {}))
    if not parameters:
        raise InvalidInputError("tune.parameters={}; expected config keys with lists of values, as conf/tune holds.")
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


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of a run's config with these values in it.

    Raises:
        InvalidInputError: a key that the run does not have, or one that is not for tuning to set.
    """
    changed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for key, value in values.items():
        part, _, name = key.partition(".")
        check_choice(part, TUNED_PARTS, f"what tune.parameters sets by {key}")
        parent = OmegaConf.select(changed, key.rpartition(".")[0])
        if not name or not isinstance(parent, DictConfig) or key.rpartition(".")[2] not in parent:
            known = [str(setting) for setting in parent if setting != "_target_"] if parent is not None else []
            raise InvalidInputError(
                f"tune.parameters has {key}, which this run does not; it has: {', '.join(known) or 'none there'}. "
                "Choose the grid of the run's own method."
            )
        OmegaConf.update(changed, key, value, merge=False)
    return changed  # type: ignore[return-value]


def tune(
    config: DictConfig,
    run: RunFolder,
    data: HashingDataModule,
    known_relevance: dict[tuple[str, str], Relevance],
    device: torch.device,
    is_writer: bool = True,
) -> dict[str, Any]:
    """Score every candidate on the validation queries and choose the best, the first of equals.

    Args:
        config: the run's, with `tune`.
        run: where `tune.json` records what was tried; candidates that stand there are not tried again.
        data: set up.
        known_relevance: relevance by roles, computed once for all candidates.
        device: where hashers are fitted and codes are ranked.
        is_writer: whether this process records.

    Returns:
        The chosen values by config key. `tune.json` holds each candidate's values, score, all metrics and seconds; one
        that cannot be fitted has an error in place of its score.

    Raises:
        InvalidInputError: a grid that does not fit the run, a split without validation parts, a metric that is not
            there, or no candidate that can be fitted.
    """
    points = candidates(config.tune, config.seed)
    tried = [(values, with_values(config, values)) for values in points]
    if not data.has_validation:
        raise InvalidInputError(
            f"tune chooses on validation queries, and protocol={config.choices.protocol} has none; choose one that "
            "has, as protocol=five_way."
        )
    metric = str(config.tune.get("metric") or "mAP")
    record = read_record(run.tuning, points) if run.tuning.exists() else []
    for number, (values, candidate) in enumerate(track(tried, "Tuning")):
        if any(entry["values"] == values for entry in record):
            continue
        started = time.perf_counter()
        try:
            module = build_module(candidate, data)
            module.known_relevance = known_relevance
            fit(module.to(device), data)
            if learns_jointly(candidate):
                trained = RunFolder(run.path / "tuning" / str(number))
                train_jointly(candidate, trained, None, module, data)
                module.hasher = load_hasher(trained.hasher).to(device)
            metrics = validation_metrics(module, data)
        except InvalidInputError as error:
            entry: dict[str, Any] = {"values": values, "score": None, "error": " ".join(str(error).split())}
        else:
            check_choice(metric, find_maximised_figures(metrics), "tune.metric")
            entry = {"values": values, "score": metrics[metric], "metrics": metrics}
        entry["seconds"] = time.perf_counter() - started
        record.append(entry)
        log.info("tune: %s: %s", values_text(values), entry.get("error") or f"{metric} {format_value(entry['score'])}")
        if is_writer:
            write_sealed_json(run.tuning, {"metric": metric, "chosen": None, "candidates": record})
    chosen = best(record)
    if is_writer:
        write_sealed_json(run.tuning, {"metric": metric, "chosen": chosen, "candidates": record})
    return chosen


def read_record(path: Path, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The candidates that were tried already.

    Args:
        path: the file.
        points: every candidate of the run, by its values.

    Raises:
        InvalidInputError: a damaged file, or candidates of another run.
    """
    stored = read_sealed_json(path, "tuned values")
    with reading(path, "tuned values"):
        for entry in stored["candidates"]:
            if entry["values"] not in points or not isinstance(entry["score"], int | float | None):
                raise ValueError(f"a candidate is {entry!r}")
        return list(stored["candidates"])


def best(record: list[dict[str, Any]]) -> dict[str, Any]:
    """The values with the highest score, the first of equals.

    Raises:
        InvalidInputError: none has a score.
    """
    scored = [entry for entry in record if entry["score"] is not None]
    if not scored:
        reason = next((entry["error"] for entry in record if "error" in entry), "no score is a number")
        raise InvalidInputError(f"0 of {len(record)} candidates of tune could be scored; the first said: {reason}")
    chosen: dict[str, Any] = max(scored, key=lambda entry: entry["score"])["values"]
    return chosen


def fit(module: FitModule, data: HashingDataModule) -> None:
    """Fit on the training part.

    Args:
        module: unfitted, on the device to work on.
        data: set up.
    """
    started = time.perf_counter()
    module.fit_truth(data)
    part = data.part("train")
    (block,) = block_loader(part, rows=len(part))
    module.fit_hasher({name: tensor.to(module.device) for name, tensor in block.items()})
    module.seconds["fit"] = time.perf_counter() - started


def validation_metrics(module: HashingModule, data: HashingDataModule) -> dict[str, float | None]:
    """Rank the validation queries against the validation database, and measure.

    Args:
        module: fitted, on the device to work on.
        data: set up.
    """
    database, queries = (module.coded(data.part(role)) for role in VALIDATION)
    depths = [depth for depth in module.at if depth <= min(len(items) for items in database.values())]
    results = all_results(module.scores_between(queries, database, VALIDATION, data, depths))
    values = {name: _number(value) for name, value in results.items()}
    del values["skipped_queries"]
    return values


def values_text(values: Mapping[str, Any]) -> str:
    """Chosen values in one line, as "projection.smoothing=0.1"."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _number(value: float) -> float | None:
    """A score that can be compared and written as JSON; None for NaN."""
    return None if math.isnan(value) else value


def _flat(mapping: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys joined by dots, whether they are nested or written with dots."""
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
