"""Checks of settings before a fit, so that errors appear early; depths are limited to the size of the database."""

import dataclasses
import logging
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from deephash.affinity.base import Affinity
from deephash.data.base import HashingDataModule
from deephash.data.protocols.base import Protocol
from deephash.data.views import Views
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import DATABASE_CODES, LEARNT
from deephash.evaluation.scoring import ScoreSettings, score_counts
from deephash.evaluation.view_scores import select_roles
from deephash.metrics.checks import check_cutoff, check_radius
from deephash.metrics.user_metric import UserMetric, find_maximised_figures
from deephash.ranking.counts import DistanceCounts
from deephash.registry import get_word
from deephash.training.base import get_runner_class
from deephash.training.building import build_score_settings, check_encoders
from deephash.validation import InvalidInputError, check_bits, check_choice

log = logging.getLogger(__name__)


def check_settings(config: DictConfig) -> None:
    """Raise an error for settings that are invalid for any data.

    Raises:
        InvalidInputError: the message names the setting.
    """
    check_bits(config.bits)
    if isinstance(config.seed, bool) or not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise InvalidInputError(f"seed={config.seed!r}; expected a whole number from 0 to {2**32 - 1}.")
    check_choice(config.score, ("test", "validation"), "score")
    check_measures(config)
    check_encoders(config)
    check_choice(config.metrics.database_codes, DATABASE_CODES, "metrics.database_codes")
    if config.metrics.database_codes == LEARNT and get_runner_class(config).minimises_loss:
        raise InvalidInputError(
            f"metrics.database_codes={LEARNT} ranks by the codes that the fit learnt, which joint training makes "
            "obsolete; choose train=fit."
        )


def check_measures(config: DictConfig) -> None:
    """Raise an error for depths, radii and switches that are invalid for any data.

    Raises:
        InvalidInputError: the setting is invalid.
    """
    for name, check in (("at", check_cutoff), ("radii", lambda radius: check_radius(radius, radius))):
        values = config.metrics[name]
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise InvalidInputError(f"metrics.{name}={values!r}; expected a list, such as metrics.{name}=[2].")
        for value in values:
            try:
                check(value)
            except (InvalidInputError, TypeError) as error:
                raise InvalidInputError(f"metrics.{name}={list(values)}: {error}") from error
    for name, value in (
        ("figures", config.get("figures", True)),
        ("metrics.stable_order", config.metrics.stable_order),
    ):
        if not isinstance(value, bool):
            raise InvalidInputError(f"{name}={value!r}; expected true or false.")


def check_labelled(config: DictConfig, labelled: bool | None, fits: bool = True) -> None:
    """Raise an error if the data have no labels and a setting needs them.

    Args:
        config: config of the run.
        labelled: whether the data have labels; None if that is not known yet.
        fits: whether a method will be fitted; False if a fitted one is only scored.

    Raises:
        InvalidInputError: the message names the setting that needs labels.
    """
    if labelled is not False:
        return
    truth: type[Affinity] = get_class(config.truth._target_)
    if truth.needs_labels:
        raise InvalidInputError(
            f"truth={config.choices.truth} needs labels, and data={config.choices.data} have none; use data with "
            "labels, or a truth by distance, such as truth=nearest_neighbours or truth=epsilon_ball."
        )
    protocol: type[Protocol] = get_class(config.protocol._target_)
    if protocol.needs_labels:
        raise InvalidInputError(
            f"protocol={config.choices.protocol} holds out classes, and data={config.choices.data} have no labels; use "
            "data with labels, or another protocol."
        )
    if fits and "labels" in getattr(get_class(config.projection._target_), "requires", ()):
        raise InvalidInputError(
            f"method={config.choices.method} learns from labels, and data={config.choices.data} have none; use data "
            "with labels, or a method that needs none, such as method=itq."
        )


def choose_score_settings(config: DictConfig, truth: FittedTruth) -> tuple[ScoreSettings, list[str]]:
    """Check before a fit that its hasher can be scored, and limit depths to the size of the database.

    Args:
        config: config of the run.
        truth: ground truth of the data, after items were held out.

    Returns:
        Settings of the scoring, and a note for each setting that was lowered.

    Raises:
        InvalidInputError: the split lacks a part, or the truth cannot be measured on these parts.
    """
    queries, database = (truth.data.part(role) for role in select_roles(config.score))
    truth.check_parts(queries, database)
    return lower_depths(build_score_settings(config), count_searched_items(database.features))


def count_searched_items(features: Any) -> int:
    """Return the number of items to search; with several views, that of the view with the fewest items."""
    if isinstance(features, Views):
        return min(int(present.sum()) for present in features.present.values())
    return len(features)


def lower_depths(settings: ScoreSettings, items: int) -> tuple[ScoreSettings, list[str]]:
    """Limit depths to the size of the database.

    Args:
        settings: settings of the scoring.
        items: size of the database.

    Returns:
        The settings, and a note for each setting that was lowered; the notes are logged as warnings too.

    Raises:
        InvalidInputError: the depth of a user's own metric cannot be lowered.
    """
    notes = []
    at = settings.at
    if any(k > items for k in at):
        notes.append(f"metrics.at={list(at)} exceeds the database's {items} items; lowered to {items}.")
        at = tuple(dict.fromkeys(min(k, items) for k in at))
    user_metrics = tuple(_lower_metric(metric, items, notes) for metric in settings.user_metrics)
    for note in notes:
        log.warning(note)
    return dataclasses.replace(settings, at=at, user_metrics=user_metrics), notes


def _lower_metric(metric: UserMetric, items: int, lines: list[str]) -> UserMetric:
    if metric.depth <= items:
        return metric
    name = get_word(type(metric))
    at = getattr(metric, "at", None)
    if not dataclasses.is_dataclass(metric) or at is None:
        raise InvalidInputError(
            f"user_metric.{name} needs the first {metric.depth} items, and the database has {items}; lower its depth "
            "or leave it out of user_metric=[...]."
        )
    lines.append(f"user_metric.{name}.at={list(at)} exceeds the database's {items} items; lowered to {items}.")
    lowered: UserMetric = dataclasses.replace(metric, at=tuple(dict.fromkeys(min(k, items) for k in at)))  # type: ignore[call-arg]
    return lowered


def check_figure(name: str, setting: str, settings: ScoreSettings, data: HashingDataModule) -> None:
    """Raise an error if validation does not compute the figure by which settings are chosen.

    Args:
        name: name of the figure.
        setting: setting that names it.
        settings: settings of the scoring.
        data: data module that has been set up, with validation parts.

    Raises:
        InvalidInputError: the message lists the figures that validation computes.
    """
    searched = count_searched_items(data.part("validation_database").features)
    one_query = DistanceCounts(torch.tensor([[0, searched]]), torch.tensor([[0, 1]]))
    scores = score_counts(one_query, dataclasses.replace(settings.within(searched), radii=()))
    figures = [figure for figure in scores.results if figure != "skipped_queries"]
    plain = name.rpartition("/")[2] if "_to_" in name else name
    # Radii depend on the codes, and grades on the queries; neither is known yet.
    if "@r" not in plain and "_graded" not in plain:
        check_choice(plain, find_maximised_figures(figures), setting)
