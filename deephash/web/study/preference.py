"""Which of two runs participants prefer, and how surely, judgements of one participant being alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from deephash.web.study.records import Judgement

RESAMPLES = 10_000
# Participants up to whom all their sign flips are counted, 2¹²; beyond, so many are drawn.
COUNTED_PARTICIPANTS, FLIPS = 12, 9_999

Interval = tuple[float, float]


@final
@dataclass(frozen=True)
class Preference:
    """Judgements of one form of list, or of all.

    Args:
        mode: interleaved, side_by_side or all.
        participants: with an answer.
        judgements: answered queries.
        first: of them for the first run.
        neither: for neither.
        second: for the second run.
        share: of the decided judgements that are for the first run; None where none is decided.
        wilson: 95 % interval of the share were all judgements independent.
        p_value: of the two-sided sign test, likewise.
        clustered: 95 % interval by resampling participants.
        clustered_p_value: of the sign-flip test over participants.
        icc: intraclass correlation of decided judgements; None where it cannot be estimated.
    """

    mode: str
    participants: int
    judgements: int
    first: int
    neither: int
    second: int
    share: float | None
    wilson: Interval | None
    p_value: float | None
    clustered: Interval | None
    clustered_p_value: float | None
    icc: float | None


@final
@dataclass(frozen=True)
class MeanRating:
    """A mean of ratings from 1 to 5, or of their differences.

    Args:
        rated: what was rated.
        ratings: how many there are.
        mean: of them.
        interval: 95 %, by resampling participants; None with one participant.
    """

    rated: str
    ratings: int
    mean: float
    interval: Interval | None


def preference(judgements: Sequence[Judgement], mode: str, draw: np.random.Generator) -> Preference:
    """What judgements say of the two runs.

    Args:
        judgements: at least one.
        mode: what they are of, for the table.
        draw: of the resamples and flips.
    """
    from scipy import stats

    sessions = np.array([one.session for one in judgements])
    preferred = np.array([one.preferred for one in judgements])
    wins, losses = (by_participant(sessions, preferred == sign) for sign in (1, -1))
    first, second = int(wins.sum()), int(losses.sum())
    counts = (len(wins), len(judgements), first, len(judgements) - first - second, second)
    if first + second == 0:
        return Preference(mode, *counts, None, None, None, None, None, None)
    outcome = stats.binomtest(first, first + second)
    wilson = outcome.proportion_ci(0.95, "wilson")
    return Preference(
        mode,
        *counts,
        first / (first + second),
        (float(wilson.low), float(wilson.high)),
        float(outcome.pvalue),
        clustered_interval(wins, wins + losses, draw),
        float(sign_flip_p_values((wins - losses)[:, None], draw)[0]),
        intraclass_correlation(wins, wins + losses),
    )


def mean_ratings(judgements: Sequence[Judgement], draw: np.random.Generator) -> list[MeanRating]:
    """Mean ratings of the runs' lists, of their differences, and of the interleaved lists; those that there are."""
    sided = [(one.session, one.ratings) for one in judgements if one.ratings is not None]
    mixed = [(one.session, one.rating) for one in judgements if one.rating is not None]
    values = {
        "first": [(session, first) for session, (first, _) in sided],
        "second": [(session, second) for session, (_, second) in sided],
        "first less second": [(session, first - second) for session, (first, second) in sided],
        "interleaved list": mixed,
    }
    return [mean_rating(name, found, draw) for name, found in values.items() if found]


def mean_rating(rated: str, values: Sequence[tuple[int, float]], draw: np.random.Generator) -> MeanRating:
    """One mean.

    Args:
        rated: what was rated.
        values: session and rating of each.
        draw: of the resamples.
    """
    sessions, ratings = np.array([session for session, _ in values]), np.array([float(value) for _, value in values])
    sums, counts = by_participant(sessions, ratings), by_participant(sessions, np.ones(len(ratings)))
    return MeanRating(rated, len(ratings), float(ratings.mean()), clustered_interval(sums, counts, draw))


def by_participant(sessions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of values (n,) over each participant's judgements, float64 (P,), by rising session."""
    _, owners = np.unique(sessions, return_inverse=True)
    return np.bincount(owners, weights=values.astype(np.float64))


def clustered_interval(sums: np.ndarray, counts: np.ndarray, draw: np.random.Generator) -> Interval | None:
    """The 95 % percentile interval of a mean by resampling participants whole.

    Args:
        sums: of each participant's values, (P,).
        counts: how many they are, (P,).
        draw: of the resamples.

    Returns:
        Its ends; None with fewer than two participants, of whom nothing can be resampled.
    """
    there = counts > 0
    sums, counts = sums[there], counts[there]
    if len(sums) < 2:
        return None
    size = len(sums)
    weights = draw.multinomial(size, np.full(size, 1 / size), RESAMPLES)
    low, high = np.quantile((weights @ sums) / (weights @ counts), (0.025, 0.975))
    return float(low), float(high)


def sign_flip_p_values(nets: np.ndarray, draw: np.random.Generator, flips: int = FLIPS) -> np.ndarray:
    """Two-sided p-values of the sign-flip test over participants.

    Without a preference each participant's net number of judgements for the first run is as likely to be its opposite,
    however alike the judgements of one participant are.

    Args:
        nets: whole numbers (P, S), of S studies with P participants.
        draw: of the flips, where there are too many to count.
        flips: how many are drawn then.

    Returns:
        float64 (S,).
    """
    participants = len(nets)
    counted = participants <= COUNTED_PARTICIPANTS
    if counted:
        codes = np.arange(2**participants)[:, None] >> np.arange(participants)
        signs = 1 - 2 * (codes & 1)
    else:
        signs = 1 - 2 * draw.integers(0, 2, (flips, participants))
    # Whole numbers below 2²⁴ are exact in float32, so that equal sums are equal.
    flipped = np.abs(signs.astype(np.float32) @ nets.astype(np.float32))
    reached = (flipped >= np.abs(nets.sum(0))).sum(0)
    return np.asarray(reached / len(signs) if counted else (reached + 1) / (flips + 1))


def intraclass_correlation(wins: np.ndarray, decided: np.ndarray) -> float | None:
    """How alike the decided judgements of one participant are, by the analysis of variance.

    Args:
        wins: of each participant for the first run, (P,).
        decided: judgements of each that are for either, (P,).

    Returns:
        1 where participants agree with themselves alone, 0 where they do not differ; None where no participant has
        several or there is but one, or all judgements are equal.
    """
    there = decided > 0
    wins, decided = wins[there], decided[there]
    groups, total = len(wins), decided.sum()
    if groups < 2 or total <= groups:
        return None
    shares = wins / decided
    between = (decided * (shares - wins.sum() / total) ** 2).sum() / (groups - 1)
    within = (decided * shares * (1 - shares)).sum() / (total - groups)
    size = (total - (decided**2).sum() / total) / (groups - 1)
    whole = between + (size - 1) * within
    return float((between - within) / whole) if whole > 0 else None
