"""The analysis of a study's log."""

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
from deephash.web.study.metric_agreement import Agreement, agreement
from deephash.web.study.preference import Interval, MeanRating, Preference, mean_ratings, preference
from deephash.web.study.records import Judgement, Study

if TYPE_CHECKING:
    import polars

# What a table of scores holds beside metrics.
NO_METRICS = ("query", "direction", "relevant")
FEW_PARTICIPANTS = 10


@final
@dataclass(frozen=True)
class Analysis:
    """What a log says.

    Args:
        runs: titles of the first and the second, with their folders.
        sessions: participants who began.
        queries: different ones that were judged.
        preferences: of all judgements, and of each form of list where there were both.
        ratings: mean ones.
        left: share of the decided judgements side by side that are for the left list, with its 95 % Wilson interval:
            sides are drawn by coin, so a share far from one half is a habit of the participants; None where there are
            none.
        seconds: median of a judgement.
        agreements: of each metric; none where the runs were not given.
        warnings: what to keep in mind.
    """

    runs: tuple[str, str]
    sessions: int
    queries: int
    preferences: list[Preference]
    ratings: list[MeanRating]
    left: tuple[float, Interval] | None
    seconds: float
    agreements: list[Agreement]
    warnings: list[str]


def analyse_log(path: Path, folders: Sequence[Path] = (), seed: int = 0) -> Analysis:
    """Analyse a log.

    Args:
        path: of the log; it may grow meanwhile.
        folders: of both runs, for their metrics; none leaves the agreement with metrics out.
        seed: of the resamples.

    Raises:
        InvalidInputError: no log, a damaged one, one without an answer, or folders of other runs.
    """
    with StudyLog.read(path) as log:
        study, sessions, judgements = log.study(), log.sessions(), log.judgements()
    if not judgements:
        raise InvalidInputError(f"{path} holds no answer yet; serve the study with deephash study serve.")
    gains = metric_gains(study, folders) if folders else None
    draw = np.random.default_rng(seed)
    parts = {mode: [one for one in judgements if one.mode == mode] for mode in (INTERLEAVED, SIDE_BY_SIDE)}
    named = {"all": judgements, **parts} if all(parts.values()) else {judgements[0].mode: judgements}
    first, second = (f"{run.title} ({run.folder})" for run in study.runs)
    return Analysis(
        (first, second),
        sessions,
        len({one.query for one in judgements}),
        [preference(found, mode, draw) for mode, found in named.items()],
        mean_ratings(judgements, draw),
        left_share(judgements),
        float(np.median([one.seconds for one in judgements])),
        [] if gains is None else agreements(judgements, gains, draw),
        warnings_of(judgements),
    )


def left_share(judgements: Sequence[Judgement]) -> tuple[float, Interval] | None:
    """How often the left list was preferred, with its Wilson interval."""
    from scipy import stats

    sides = [one.side for one in judgements if one.side]
    if not sides:
        return None
    lefts = sum(side == 1 for side in sides)
    interval = stats.binomtest(lefts, len(sides)).proportion_ci(0.95, "wilson")
    return lefts / len(sides), (float(interval.low), float(interval.high))


def warnings_of(judgements: Sequence[Judgement]) -> list[str]:
    """What to keep in mind of these judgements."""
    participants = len({one.session for one in judgements})
    if participants >= FEW_PARTICIPANTS:
        return []
    return [
        f"{participants} participant{'' if participants == 1 else 's'}: with fewer than {FEW_PARTICIPANTS}, intervals "
        "by resampling participants are too narrow."
    ]


def metric_gains(study: Study, folders: Sequence[Path]) -> "polars.DataFrame":
    """Each metric of the first run less the second's, by query: the columns query and the metrics'.

    Args:
        study: whose runs they are.
        folders: of both, in either order.

    Raises:
        InvalidInputError: another number of folders, other runs, or scores that are missing.
    """
    if len(folders) != 2:
        raise InvalidInputError(f"{len(folders)} run is given with --run; give both of the study, --run RUN --run RUN.")
    runs = [RunFolder(folder) for folder in folders]
    for run in runs:
        run.check_complete()
    identities = [load(run.hasher).identity for run in runs]
    wanted = [run.hasher for run in study.runs]
    if identities != wanted:
        runs.reverse()
        if identities[::-1] != wanted:
            raise InvalidInputError(
                f"{folders[0]} and {folders[1]} are not both runs of this study, which is of {study.runs[0].folder} "
                f"and {study.runs[1].folder}; give those folders."
            )
    first, second = (scores_of(run, study.design.direction) for run in runs)
    names = [name for name in first.columns if name not in NO_METRICS and name in second.columns]
    joined = first.join(second, on="query", how="inner", suffix=" of the second")
    return joined.select("query", *[(joined[name] - joined[f"{name} of the second"]).alias(name) for name in names])


def scores_of(run: RunFolder, direction: str) -> "polars.DataFrame":
    """What each query of a run scored, in the study's direction."""
    scores = read_scores(run)
    return scores.filter(scores["direction"] == direction) if "direction" in scores.columns else scores


def agreements(
    judgements: Sequence[Judgement], gains: "polars.DataFrame", draw: np.random.Generator
) -> list[Agreement]:
    """Every metric beside preference, and beside ratings where lists were rated side by side."""
    preferred = mean_by_query([(one.query, one.preferred) for one in judgements])
    rated = mean_by_query([(one.query, one.ratings[0] - one.ratings[1]) for one in judgements if one.ratings])
    queries = gains["query"].to_list()
    found = []
    for name in gains.columns[1:]:
        of_query = dict(zip(queries, gains[name].fill_null(float("nan")).to_list(), strict=True))
        for judged, means in (("preference", preferred), ("rating", rated)):
            if means:
                metric = np.array([of_query.get(query, np.nan) for query in means], np.float64)
                found.append(agreement(name, judged, metric, np.array(list(means.values())), draw))
    return found


def mean_by_query(values: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Means of values by their query, ascending."""
    found: dict[int, list[float]] = {}
    for query, value in values:
        found.setdefault(query, []).append(value)
    return {query: float(np.mean(found[query])) for query in sorted(found)}
