"""Scores of a hasher on a data set, for each pair of a query view and a database view."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deephash.data.file_rows import FileRows
from deephash.data.items import Part
from deephash.evaluation.fitted_truth import FittedTruth
from deephash.evaluation.learnt_codes import LearntCodes
from deephash.evaluation.scoring import Scores, ScoreSettings, find_highest_grade, score_codes
from deephash.hashers.hasher_views import AnyHasher, encode_views, get_directions
from deephash.ranking.base import RankingEngine
from deephash.ranking.relevance import move_relevance

TEST_ROLES = ("query", "database")
VALIDATION_ROLES = ("validation_query", "validation_database")


def select_roles(score: str) -> tuple[str, str]:
    """Return the roles of the queries and of the database for `score=test` or `score=validation`."""
    return VALIDATION_ROLES if score == "validation" else TEST_ROLES


@dataclass(frozen=True)
class CodedItems:
    """Codes and the positions of their items.

    Args:
        codes: packed codes, uint8 (m, ⌈b/8⌉).
        positions: int64 (m,), positions of the items in their part of the split.
    """

    codes: Tensor
    positions: Tensor

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a hasher on two parts of a data set, with everything they were computed from.

    Args:
        hasher: hasher that was scored.
        truth: ground truth, which holds the data.
        ranking: engine that ranked the codes.
        settings: metrics that were computed.
        roles: roles of the queries and of the database.
        queries: codes of this process's queries by view.
        database: codes of the whole database by view.
        scores: scores by query view and database view.
        seconds: durations by step.
    """

    hasher: AnyHasher
    truth: FittedTruth
    ranking: RankingEngine
    settings: ScoreSettings
    roles: tuple[str, str]
    queries: Mapping[str, CodedItems]
    database: Mapping[str, CodedItems]
    scores: Mapping[tuple[str, str], Scores]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, float]:
        """Metrics by name; with two views, means over the cross-view directions, then metrics per direction."""
        return join_results(self.scores)


def direction_name(query_view: str, database_view: str) -> str:
    """Return the name of a direction in results, such as image_to_text."""
    return f"{query_view}_to_{database_view}"


def join_results(scores: Mapping[tuple[str, str], Scores]) -> dict[str, float]:
    """Join the metrics of all directions.

    Args:
        scores: scores by query view and database view.

    Returns:
        With one view, its metrics. With two, the means over the two directions across views come first, as in
        cross-modal retrieval. The metrics of each direction follow under its name.
    """
    if len(scores) == 1:
        (only,) = scores.values()
        return dict(only.results)
    across = [found.results for (query_view, database_view), found in scores.items() if query_view != database_view]
    results = {name: sum(found[name] for found in across) / len(across) for name in across[0]}
    results["skipped_queries"] = sum(found["skipped_queries"] for found in across)
    for direction, found in scores.items():
        name = direction_name(*direction)
        results |= {f"{name}/{metric}": value for metric, value in found.results.items() if metric != "skipped_queries"}
    return results


def encode_part(hasher: AnyHasher, part: Part, device: torch.device | str) -> dict[str, CodedItems]:
    """Encode the items of a part on a device, that of the hasher's weights, and return their codes by view."""
    features: Any = part.features if isinstance(part.features, FileRows) else part.features.to(device)
    coded = encode_views(hasher, features)
    return {view: CodedItems(codes.to(device), rows.to(device)) for view, (codes, rows) in coded.items()}


def select_learnt_codes(learnt: LearntCodes, items: CodedItems, ids: Tensor) -> CodedItems:
    """Return the same items with the codes that the fit learnt for them.

    Args:
        learnt: learnt codes of the training items.
        items: items of a part.
        ids: int64 (m,), rows in the data set of all items of that part.

    Raises:
        InvalidInputError: an item has no learnt code.
    """
    codes = learnt.select(ids[items.positions.cpu()])
    return CodedItems(codes.to(items.codes.device), items.positions)


def score_views(
    hasher: AnyHasher,
    queries: Mapping[str, CodedItems],
    database: Mapping[str, CodedItems],
    truth: FittedTruth,
    roles: tuple[str, str],
    ranking: RankingEngine,
    settings: ScoreSettings,
    gather: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Score the codes of queries against those of a database in each direction.

    Args:
        hasher: hasher that made the codes.
        queries: codes of this process's queries by view.
        database: codes of the whole database by view, on the same device.
        truth: ground truth.
        roles: roles of the queries and of the database.
        ranking: engine that ranks the codes.
        settings: metrics to compute.
        gather: function that concatenates the rows of all processes; None if there is only this process.

    Raises:
        InvalidInputError: a depth exceeds the size of the database.
    """
    query_part, database_part = truth.data.part(roles[0]), truth.data.part(roles[1])
    seconds = {"truth": 0.0, "rank": 0.0}
    scores = {}
    for query_view, database_view in get_directions(hasher):
        started = time.perf_counter()
        asking, searched = queries[query_view], database[database_view]
        if gather is None and len(asking) == len(query_part) and len(searched) == len(database_part):
            relevance = truth.relevance_of_roles(*roles)
        else:
            # Parts stay in the machine's memory, even if their codes are on another device.
            whole = len(searched) == len(database_part)
            items = database_part if whole else database_part.rows(searched.positions.cpu())
            relevance = truth.relevance(query_part.rows(asking.positions.cpu()), items)
        relevance = move_relevance(relevance, asking.codes.device)
        seconds["truth"] += time.perf_counter() - started
        started = time.perf_counter()
        scores[query_view, database_view] = score_codes(
            asking.codes,
            searched.codes,
            relevance,
            hasher.distance,
            ranking,
            settings,
            query_ids=asking.positions,
            highest_grade=find_highest_grade(relevance, query_part.labels),
            gather=gather,
        )
        seconds["rank"] += time.perf_counter() - started
    return Evaluation(hasher, truth, ranking, settings, roles, queries, database, scores, seconds)
