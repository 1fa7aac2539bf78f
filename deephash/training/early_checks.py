"""What would be refused after a fit or a training is refused before it; depths beyond the database are lowered."""

import dataclasses
import logging
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from deephash.affinity.base import Affinity
from deephash.data.base import HashingDataModule
from deephash.data.views import Views
from deephash.evaluation.hashing_module import HashingModule
from deephash.metrics.checks import check_cutoff, check_radius
from deephash.metrics.hamming_retrieval import HammingRetrieval
from deephash.metrics.user_metric import UserMetric, find_maximised_figures
from deephash.ranking.counts import DistanceCounts
from deephash.validation import InvalidInputError, check_choice

log = logging.getLogger(__name__)


def check_measures(config: DictConfig) -> None:
    """Raise an error for depths, radii and switches that no data would make right.

    Raises:
        InvalidInputError: naming the setting.
    """
    for name, check in (("at", check_cutoff), ("radii", lambda radius: check_radius(radius, radius))):
        values = config.metrics[name]
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise InvalidInputError(f"metrics.{name}={values!r}; expected a list, as metrics.{name}=[2].")
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
    """Raise an error for data without labels, where something needs them.

    Args:
        config: the run's.
        labelled: whether the data have labels; None where that is not known yet.
        fits: whether a method is fitted too, rather than a fitted one scored.

    Raises:
        InvalidInputError: naming what needs labels.
    """
    if labelled is not False:
        return
    truth: type[Affinity] = get_class(config.truth._target_)
    if truth.needs_labels:
        raise InvalidInputError(
            f"truth={config.choices.truth} needs labels, and data={config.choices.data} have none; use data with "
            "labels, or truth by distance, as truth=nearest_neighbours or truth=epsilon_ball."
        )
    if fits and "labels" in getattr(get_class(config.projection._target_), "requires", ()):
        raise InvalidInputError(
            f"method={config.choices.method} learns from labels, and data={config.choices.data} have none; use data "
            "with labels, or a method without, as method=itq."
        )


def check_scoring(config: DictConfig, data: HashingDataModule, module: HashingModule, roles: tuple[str, str]) -> None:
    """Refuse what the scoring of a run would refuse after its fit, and lower depths that the database does not have.

    Args:
        config: the run's.
        data: set up, with what is held out.
        module: not yet fitted; its depths are lowered, and its `lowered` says which.
        roles: of the queries and of the database.

    Raises:
        InvalidInputError: a part that the split lacks, or a truth that cannot be measured on these parts.
    """
    queries, database = (data.part(role) for role in roles)
    module.truth.check_parts(queries, database)
    lower_depths(module, searched_items(database.features))


def searched_items(features: Any) -> int:
    """The fewest items that are searched in any view."""
    if isinstance(features, Views):
        return min(int(present.sum()) for present in features.present.values())
    return len(features)


def lower_depths(module: HashingModule, items: int) -> None:
    """Lower depths beyond the database to its size, and say so in `module.lowered`.

    Args:
        module: not yet scored.
        items: of the database.

    Raises:
        InvalidInputError: a metric of a user's own whose depth cannot be lowered.
    """
    module.lowered = []
    if any(k > items for k in module.at):
        module.lowered.append(f"metrics.at={list(module.at)} goes beyond the database's {items} items: lowered to it.")
        module.at = tuple(dict.fromkeys(min(k, items) for k in module.at))
    module.user_metrics = tuple(_lowered(metric, items, module.lowered) for metric in module.user_metrics)
    for line in module.lowered:
        log.warning(line)


def _lowered(metric: UserMetric, items: int, lines: list[str]) -> UserMetric:
    if metric.depth <= items:
        return metric
    name = type(metric).__module__.rpartition(".")[2]
    at = getattr(metric, "at", None)
    if not dataclasses.is_dataclass(metric) or at is None:
        raise InvalidInputError(
            f"user_metric.{name} asks for the first {metric.depth} of a database of {items} items; lower its depth or "
            "leave it out of user_metric=[...]."
        )
    lines.append(f"user_metric.{name}.at={list(at)} goes beyond the database's {items} items: lowered to it.")
    lowered: UserMetric = dataclasses.replace(metric, at=tuple(dict.fromkeys(min(k, items) for k in at)))  # type: ignore[call-arg]
    return lowered


def check_figure(name: str, setting: str, module: HashingModule, data: HashingDataModule) -> None:
    """Refuse to choose by a figure that validation will not give.

    Args:
        name: of the figure.
        setting: which names it.
        module: not yet scored.
        data: set up, with validation parts.

    Raises:
        InvalidInputError: with the figures that there are.
    """
    searched = searched_items(data.part("validation_database").features)
    metric = HammingRetrieval(
        1,
        at=[k for k in module.at if k <= searched],
        radii=[0],
        user_metrics=[one for one in module.user_metrics if one.depth <= searched],
    )
    one_query = DistanceCounts(torch.tensor([[0, searched]]), torch.tensor([[0, 1]]))
    metric.update(one_query, torch.zeros(1, dtype=torch.int64))
    figures = [figure for figure in metric.compute() if figure != "skipped_queries" and "@r" not in figure]
    plain = name.rpartition("/")[2] if "_to_" in name else name
    # Radii are known once the codes are, and grades once the queries are read.
    if "@r" not in plain and "_graded" not in plain:
        check_choice(plain, find_maximised_figures(figures), setting)
