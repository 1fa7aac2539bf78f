"""Estimates of the preference between two runs, with correlated judgements of one participant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from deephash.web.study.records import Judgement

RESAMPLES = 10_000
# Up to this number of participants, all sign flips are counted, at most 2¹². For more participants, FLIPS are drawn.
MAX_COUNTED_PARTICIPANTS, FLIPS = 12, 9_999

Interval = tuple[float, float]


@final
@dataclass(frozen=True)
class Preference:
    """The preference in one form of list, or in all.

    Args:
        mode: interleaved, side_by_side or all.
        participants: number of participants with an answer.
        judgements: number of answered queries.
        first: number of judgements for the first run.
        neither: number of judgements for neither run.
        second: number of judgements for the second run.
        share: share of decided judgements for the first run; None if none is decided.
        wilson: 95 % interval of the share, under the assumption of independent judgements.
        p_value: p-value of the two-sided sign test, under the same assumption.
        clustered: 95 % interval by resampling participants.
        clustered_p_value: p-value of the sign-flip test over participants.
        icc: intraclass correlation of decided judgements; None if it cannot be estimated.
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
        rated: name of the rated lists.
        ratings: number of ratings.
        mean: their mean.
        interval: 95 % interval by resampling participants; None with one participant.
    """

    rated: str
    ratings: int
    mean: float
    interval: Interval | None


def estimate_preference(judgements: Sequence[Judgement], mode: str, draw: np.random.Generator) -> Preference:
    """Estimate the preference between the two runs.

    Args:
        judgements: judgements, at least one.
        mode: name of the form of list.
        draw: generator of the resamples and flips.
    """
    from scipy import stats

    sessions = np.array([judgement.session for judgement in judgements])
    preferred = np.array([judgement.preferred for judgement in judgements])
    wins, losses = (sum_by_participant(sessions, preferred == sign) for sign in (1, -1))
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


def average_ratings(judgements: Sequence[Judgement], draw: np.random.Generator) -> list[MeanRating]:
    """Return the mean ratings of each run's lists, of their differences, and of interleaved lists, if present."""
    sided = [(judgement.session, judgement.ratings) for judgement in judgements if judgement.ratings is not None]
    mixed = [(judgement.session, judgement.rating) for judgement in judgements if judgement.rating is not None]
    values = {
        "first": [(session, first) for session, (first, _) in sided],
        "second": [(session, second) for session, (_, second) in sided],
        "first less second": [(session, first - second) for session, (first, second) in sided],
        "interleaved list": mixed,
    }
    return [average_rating(name, ratings, draw) for name, ratings in values.items() if ratings]


def average_rating(rated: str, values: Sequence[tuple[int, float]], draw: np.random.Generator) -> MeanRating:
    """Return one mean with its interval.

    Args:
        rated: name of the rated lists.
        values: pairs of session and rating.
        draw: generator of the resamples.
    """
    sessions, ratings = np.array([session for session, _ in values]), np.array([float(value) for _, value in values])
    sums, counts = sum_by_participant(sessions, ratings), sum_by_participant(sessions, np.ones(len(ratings)))
    return MeanRating(rated, len(ratings), float(ratings.mean()), clustered_interval(sums, counts, draw))


def sum_by_participant(sessions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return sums of values (n,) over the judgements of each participant, float64 (P,), by ascending session."""
    _, owners = np.unique(sessions, return_inverse=True)
    return np.bincount(owners, weights=values.astype(np.float64))


def clustered_interval(sums: np.ndarray, counts: np.ndarray, draw: np.random.Generator) -> Interval | None:
    """Return the 95 % percentile interval of a mean by resampling participants.

    Args:
        sums: (P,), sum of the values of each participant.
        counts: (P,), number of values of each participant.
        draw: generator of the resamples.

    Returns:
        The ends of the interval; None with fewer than two participants.
    """
    present = counts > 0
    sums, counts = sums[present], counts[present]
    if len(sums) < 2:
        return None
    size = len(sums)
    weights = draw.multinomial(size, np.full(size, 1 / size), RESAMPLES)
    low, high = np.quantile((weights @ sums) / (weights @ counts), (0.025, 0.975))
    return float(low), float(high)


def sign_flip_p_values(nets: np.ndarray, draw: np.random.Generator, flips: int = FLIPS) -> np.ndarray:
    """Return two-sided p-values of the sign-flip test over participants.

    Without a preference, the net number of judgements of a participant for the first run is as likely as its opposite,
    even if the judgements of one participant are correlated.

    Args:
        nets: whole numbers (P, S), net number of judgements of each of P participants in each of S studies.
        draw: generator of the flips, if there are too many to count.
        flips: number of flips to draw.

    Returns:
        float64 (S,).
    """
    participants = len(nets)
    counted = participants <= MAX_COUNTED_PARTICIPANTS
    if counted:
        codes = np.arange(2**participants)[:, None] >> np.arange(participants)
        signs = 1 - 2 * (codes & 1)
    else:
        signs = 1 - 2 * draw.integers(0, 2, (flips, participants))
    # Whole numbers below 2²⁴ are exact in float32, so equal sums compare equal.
    flipped = np.abs(signs.astype(np.float32) @ nets.astype(np.float32))
    reached = (flipped >= np.abs(nets.sum(0))).sum(0)
    return np.asarray(reached / len(signs) if counted else (reached + 1) / (flips + 1))


def intraclass_correlation(wins: np.ndarray, decided: np.ndarray) -> float | None:
    """Return the intraclass correlation of the decided judgements of a participant, by analysis of variance.

    Args:
        wins: (P,), judgements of each participant for the first run.
        decided: (P,), judgements of each participant for either run.

    Returns:
        1 if every participant is consistent, 0 if participants do not differ; None with a single participant, if no
        participant has several judgements, or if all judgements are equal.
    """
    present = decided > 0
    wins, decided = wins[present], decided[present]
    groups, total = len(wins), decided.sum()
    if groups < 2 or total <= groups:
        return None
    shares = wins / decided
    between = (decided * (shares - wins.sum() / total) ** 2).sum() / (groups - 1)
    within = (decided * shares * (1 - shares)).sum() / (total - groups)
    size = (total - (decided**2).sum() / total) / (groups - 1)
    total_variance = between + (size - 1) * within
    return float((between - within) / total_variance) if total_variance > 0 else None
