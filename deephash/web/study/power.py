"""Statistical power of a study: exact for independent judgements, simulated for correlated ones."""

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from deephash.validation import InvalidInputError, check_count
from deephash.web.study.preference import sign_flip_p_values

SIMULATIONS, SIMULATED_FLIPS = 2_000, 999
MAX_JUDGEMENTS, MAX_PARTICIPANTS = 100_000, 4_096


@final
@dataclass(frozen=True)
class Alternative:
    """The alternative hypothesis and the test.

    Args:
        preference: share of decided judgements for the better run, above .5 and below 1.
        level: significance level of the two-sided test.
        ties: share of judgements for neither run, from 0, below 1.
        judgements: number of judgements per participant.
        icc: intraclass correlation of the decided judgements of a participant, from 0, below 1. Participants differ in
            their share for the better run, which has a beta distribution with this correlation.

    Raises:
        InvalidInputError: a value is out of bounds.
    """

    preference: float
    level: float = 0.05
    ties: float = 0.0
    judgements: int = 20
    icc: float = 0.0

    def __post_init__(self) -> None:
        check_between(self.preference, 0.5, 1.0, "preference")
        check_between(self.level, 0.0, 1.0, "level")
        for name, value in (("ties", self.ties), ("icc", self.icc)):
            if not 0 <= value < 1:
                raise InvalidInputError(f"{name}={value!r}; expected a number from 0, below 1.")
        check_count(self.judgements, "judgements")


@final
@dataclass(frozen=True)
class Requirement:
    """The required size of a study.

    Args:
        alternative: the alternative hypothesis.
        power: required power.
        independent_judgements: judgements required by the exact sign test if they are independent, including ties.
        independent_participants: number of participants for these judgements.
        clustered_participants: participants required by the sign-flip test, simulated with the intraclass correlation;
            None if the correlation is 0.
        clustered_judgements: number of their judgements.
        participants: number of participants in question, or None.
        reached: power with that number: by simulation if judgements are correlated, by the exact test otherwise.
    """

    alternative: Alternative
    power: float
    independent_judgements: int
    independent_participants: int
    clustered_participants: int | None
    clustered_judgements: int | None
    participants: int | None
    reached: float | None


def compute_requirement(
    alternative: Alternative, power: float, participants: int | None = None, seed: int = 0
) -> Requirement:
    """Compute the size that a study needs to detect an alternative.

    Args:
        alternative: the alternative hypothesis.
        power: required power.
        participants: a number of participants whose power is also computed.
        seed: seed of the simulation.

    Raises:
        InvalidInputError: a value is out of bounds, or the study needs more judgements or participants than the limits.
    """
    check_between(power, 0.0, 1.0, "power")
    if participants is not None:
        check_count(participants, "participants")
        if participants > MAX_PARTICIPANTS:
            raise InvalidInputError(f"participants={participants}; expected at most {MAX_PARTICIPANTS}.")
    needed = needed_judgements(alternative, power)
    clustered = needed_participants(alternative, power, seed) if alternative.icc > 0 else None
    reached = None
    if participants is not None and alternative.icc > 0:
        reached = simulated_power(alternative, participants, seed)
    elif participants is not None:
        reached = sign_test_power(participants * alternative.judgements, alternative)
    return Requirement(
        alternative,
        power,
        needed,
        math.ceil(needed / alternative.judgements),
        clustered,
        None if clustered is None else clustered * alternative.judgements,
        participants,
        reached,
    )


def decided_power(decided: np.ndarray, preference: float, level: float) -> np.ndarray:
    """Return the power of the exact two-sided sign test.

    Args:
        decided: int64 (n,), numbers of decided judgements.
        preference: share of them for the better run.
        level: significance level.

    Returns:
        float64 (n,).
    """
    from scipy import stats

    # The fewest significant wins. Each tail has half the level, since the distribution at .5 is symmetric.
    fewest = stats.binom.isf(level / 2, decided, 0.5) + 1
    power = stats.binom.sf(fewest - 1, decided, preference) + stats.binom.cdf(decided - fewest, decided, preference)
    return np.asarray(power)


def sign_test_power(judgements: int, alternative: Alternative) -> float:
    """Return the power of the sign test for independent judgements with a random number of ties."""
    from scipy import stats

    share = 1 - alternative.ties
    spread = 9 * math.sqrt(judgements * share * alternative.ties) + 1
    low, high = max(0, int(judgements * share - spread)), min(judgements, math.ceil(judgements * share + spread))
    decided = np.arange(low, high + 1)
    chances = stats.binom.pmf(decided, judgements, share)
    return float(chances @ decided_power(decided, alternative.preference, alternative.level))


def needed_judgements(alternative: Alternative, power: float) -> int:
    """Return the smallest number of independent judgements from which on the sign test has the required power.

    The power does not rise with every judgement, since wins are whole numbers. The result is the number after the last
    dip below the required power.

    Raises:
        InvalidInputError: the number exceeds MAX_JUDGEMENTS.
    """
    from scipy import stats

    share, edge = alternative.preference, alternative.preference - 0.5
    quantile = stats.norm.isf(alternative.level / 2) / 2 + stats.norm.ppf(power) * math.sqrt(share * (1 - share))
    near = float(max(1.0, (quantile / edge) ** 2) / (1 - alternative.ties))
    if near > MAX_JUDGEMENTS:
        raise InvalidInputError(
            f"preference={alternative.preference} with ties={alternative.ties} needs about {near:,.0f} judgements; the "
            f"limit is {MAX_JUDGEMENTS:,}: choose a larger preference."
        )
    # Dips occur within a few judgements of the normal approximation.
    fewest = math.ceil(near + 6 * math.sqrt(near) + 60 / (1 - alternative.ties))
    while sign_test_power(fewest, alternative) < power:
        fewest *= 2
    while fewest > 1 and sign_test_power(fewest - 1, alternative) >= power:
        fewest -= 1
    return fewest


def simulated_power(alternative: Alternative, participants: int, seed: int = 0) -> float:
    """Return the power of the sign-flip test over participants in 2,000 simulated studies.

    Args:
        alternative: alternative with its intraclass correlation.
        participants: number of participants per study.
        seed: seed of the simulation.
    """
    draw = np.random.default_rng([seed, participants])
    shape = (participants, SIMULATIONS)
    decided = draw.binomial(alternative.judgements, 1 - alternative.ties, shape)
    share: float | np.ndarray = alternative.preference
    if alternative.icc > 0:
        size = 1 / alternative.icc - 1
        share = draw.beta(alternative.preference * size, (1 - alternative.preference) * size, shape)
    wins = draw.binomial(decided, share)
    p_values = sign_flip_p_values(2 * wins - decided, draw, SIMULATED_FLIPS)
    return float((p_values <= alternative.level).mean())


def needed_participants(alternative: Alternative, power: float, seed: int = 0) -> int:
    """Return the smallest number of participants with which the sign-flip test has the required power, by simulation.

    Raises:
        InvalidInputError: the number exceeds MAX_PARTICIPANTS.
    """
    low, high = 0, 1
    while simulated_power(alternative, high, seed) < power:
        low, high = high, 2 * high
        if high > MAX_PARTICIPANTS:
            raise InvalidInputError(
                f"preference={alternative.preference} with icc={alternative.icc} needs more than {MAX_PARTICIPANTS} "
                "participants; choose a larger preference, or more judgements per participant."
            )
    while high - low > 1:
        middle = (low + high) // 2
        if simulated_power(alternative, middle, seed) < power:
            low = middle
        else:
            high = middle
    return high


def check_between(value: float, low: float, high: float, name: str) -> None:
    """Raise an error if a value is not between two numbers.

    Raises:
        InvalidInputError: the value is out of bounds.
    """
    if not low < value < high:
        raise InvalidInputError(f"{name}={value!r}; expected a number above {low:g} and below {high:g}.")
