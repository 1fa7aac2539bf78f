"""The analysis of the log of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from deephash.hashers.loading import load
from deephash.io.run_folder import RunFolder
from deephash.report.comparison import read_scores
from deephash.validation import InvalidInputError
from deephash.web.study.design import INTERLEAVED, SIDE_BY_SIDE
from deephash.web.study.log import StudyLog
from deephash.web.study.metric_agreement import MetricAgreement, measure_agreement
from deephash.web.study.preference import Interval, MeanRating, Preference, average_ratings, estimate_preference
from deephash.web.study.records import Judgement, Study

if TYPE_CHECKING:
    import polars

# Columns of a table of scores that are not metrics.
NO_METRICS = ("query", "direction", "relevant")
MIN_PARTICIPANTS = 10
MODES = (INTERLEAVED, SIDE_BY_SIDE)


@final
@dataclass(frozen=True)
class Analysis:
    """The analysis of a log.

    Args:
        runs: titles of the first and the second run, with their folders.
        sessions: number of participants who began.
        queries: number of different queries that were judged.
        preferences: preference over all judgements, and for each form of list if there are both.
        ratings: mean ratings.
        left: share of decided side-by-side judgements for the left list, with its 95 % Wilson interval; None without
            such judgements. Sides are drawn at random, so a share far from one half shows a habit of participants.
        seconds: median time of a judgement.
        agreements: agreement of each metric with the judgements; empty if the runs are not given.
        warnings: limits of the analysis.
    """

    runs: tuple[str, str]
    sessions: int
    queries: int
    preferences: list[Preference]
    ratings: list[MeanRating]
    left: tuple[float, Interval] | None
    seconds: float
    agreements: list[MetricAgreement]
    warnings: list[str]


def analyse_log(path: Path, folders: Sequence[Path] = (), seed: int = 0) -> Analysis:
    """Analyse a log.

    Args:
        path: path of the log, to which answers may be added meanwhile.
        folders: folders of both runs, for agreement with their metrics; empty leaves it out.
        seed: seed of the resamples.

    Raises:
        InvalidInputError: the log is missing, damaged or empty, or the folders are of other runs.
    """
    with StudyLog.read(path) as log:
        study, sessions, judgements = log.study(), log.count_sessions(), log.judgements()
    if not judgements:
        raise InvalidInputError(f"{path} holds no answer yet; serve the study with deephash study serve.")
    gains = compute_metric_gains(study, folders) if folders else None
    draw = np.random.default_rng(seed)
    by_mode = {mode: [judgement for judgement in judgements if judgement.mode == mode] for mode in MODES}
    groups = {"all": judgements, **by_mode} if all(by_mode.values()) else {judgements[0].mode: judgements}
    first, second = (f"{run.title} ({run.folder})" for run in study.runs)
    return Analysis(
        (first, second),
        sessions,
        len({judgement.query for judgement in judgements}),
        [estimate_preference(group, mode, draw) for mode, group in groups.items()],
        average_ratings(judgements, draw),
        compute_left_share(judgements),
        float(np.median([judgement.seconds for judgement in judgements])),
        [] if gains is None else measure_agreements(judgements, gains, draw),
        find_warnings(judgements),
    )


def compute_left_share(judgements: Sequence[Judgement]) -> tuple[float, Interval] | None:
    """Return the share of preferences for the left list with its Wilson interval."""
    from scipy import stats

    sides = [judgement.side for judgement in judgements if judgement.side]
    if not sides:
        return None
    lefts = sum(side == 1 for side in sides)
    interval = stats.binomtest(lefts, len(sides)).proportion_ci(0.95, "wilson")
    return lefts / len(sides), (float(interval.low), float(interval.high))


def find_warnings(judgements: Sequence[Judgement]) -> list[str]:
    """Return a warning if there are too few participants."""
    participants = len({judgement.session for judgement in judgements})
    if participants >= MIN_PARTICIPANTS:
        return []
    return [
        f"{participants} participant{'' if participants == 1 else 's'}: with fewer than {MIN_PARTICIPANTS}, intervals "
        "by resampling participants are too narrow."
    ]


def compute_metric_gains(study: Study, folders: Sequence[Path]) -> "polars.DataFrame":
    """Return the differences of all metrics, first run minus second, by query: a column query, then one per metric.

    Args:
        study: study of the runs.
        folders: folders of both runs, in any order.

    Raises:
        InvalidInputError: there are not two folders, they are of other runs, or scores are missing.
    """
    if len(folders) != 2:
        raise InvalidInputError(f"{len(folders)} run is given with --run; give both of the study, --run RUN --run RUN.")
    runs = [RunFolder(folder) for folder in folders]
    for run in runs:
        run.check_complete()
    identities = [load(run.hasher).identity for run in runs]
    expected = [run.hasher for run in study.runs]
    if identities != expected:
        runs.reverse()
        if identities[::-1] != expected:
            raise InvalidInputError(
                f"{folders[0]} and {folders[1]} are not both runs of this study, which compares "
                f"{study.runs[0].folder} and {study.runs[1].folder}; give those folders."
            )
    first, second = (read_direction_scores(run, study.design.direction) for run in runs)
    names = [name for name in first.columns if name not in NO_METRICS and name in second.columns]
    joined = first.join(second, on="query", how="inner", suffix=" of the second")
    return joined.select("query", *[(joined[name] - joined[f"{name} of the second"]).alias(name) for name in names])


def read_direction_scores(run: RunFolder, direction: str) -> "polars.DataFrame":
    """Read the scores of each query of a run in the direction of the study."""
    scores = read_scores(run)
    return scores.filter(scores["direction"] == direction) if "direction" in scores.columns else scores


def measure_agreements(
    judgements: Sequence[Judgement], gains: "polars.DataFrame", draw: np.random.Generator
) -> list[MetricAgreement]:
    """Measure the agreement of every metric with preferences, and with ratings of lists side by side."""
    preferences = average_by_query([(judgement.query, judgement.preferred) for judgement in judgements])
    rated = [(judgement.query, judgement.ratings) for judgement in judgements if judgement.ratings]
    ratings = average_by_query([(query, first - second) for query, (first, second) in rated])
    queries = gains["query"].to_list()
    agreements = []
    for name in gains.columns[1:]:
        by_query = dict(zip(queries, gains[name].fill_null(float("nan")).to_list(), strict=True))
        for judged, means in (("preference", preferences), ("rating", ratings)):
            if means:
                metric = np.array([by_query.get(query, np.nan) for query in means], np.float64)
                agreements.append(measure_agreement(name, judged, metric, np.array(list(means.values())), draw))
    return agreements


def average_by_query(values: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Return the mean of the values of each query, by ascending query."""
    by_query: dict[int, list[float]] = {}
    for query, value in values:
        by_query.setdefault(query, []).append(value)
    return {query: float(np.mean(by_query[query])) for query in sorted(by_query)}
