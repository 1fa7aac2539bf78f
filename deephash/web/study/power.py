"""How many judgements find a preference: exactly where they are independent, by simulation where they are alike."""

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
    """What is to be found, and how.

    Args:
        preference: share of the decided judgements that are for the better run, above .5 and below 1.
        level: of the two-sided test.
        ties: share of judgements for neither, from 0, below 1.
        judgements: of a participant.
        icc: intraclass correlation of one participant's decided judgements, from 0, below 1: participants' own shares
            have a beta distribution with this.

    Raises:
        InvalidInputError: a value out of bounds.
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
    """What a study needs.

    Args:
        alternative: what is to be found.
        power: chance of finding it.
        independent_judgements: so many are enough, ties included, if they are independent: by the exact sign test.
        independent_participants: who give those.
        clustered_participants: so many are enough by the sign-flip test over participants, simulated with the
            intraclass correlation; None where that is 0.
        clustered_judgements: which those give.
        participants: that were asked for; None where none were.
        reached: power that those reach, by the same test.
    """

    alternative: Alternative
    power: float
    independent_judgements: int
    independent_participants: int
    clustered_participants: int | None
    clustered_judgements: int | None
    participants: int | None
    reached: float | None


def required(alternative: Alternative, power: float, participants: int | None = None, seed: int = 0) -> Requirement:
    """What a study needs to find an alternative.

    Args:
        alternative: what is to be found.
        power: chance of finding it.
        participants: whose power is shown too.
        seed: of the simulation.

    Raises:
        InvalidInputError: a value out of bounds, or more judgements or participants than are searched.
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
    """Power of the exact two-sided sign test.

    Args:
        decided: judgements for either run, int64 (n,).
        preference: share of them that are for the better run.
        level: of the test.

    Returns:
        float64 (n,).
    """
    from scipy import stats

    # The fewest wins that are significant; half the level lies in either tail, since both are alike at .5.
    fewest = stats.binom.isf(level / 2, decided, 0.5) + 1
    power = stats.binom.sf(fewest - 1, decided, preference) + stats.binom.cdf(decided - fewest, decided, preference)
    return np.asarray(power)


def sign_test_power(judgements: int, alternative: Alternative) -> float:
    """Power of the sign test by independent judgements, the number of ties among them being random."""
    from scipy import stats

    share = 1 - alternative.ties
    spread = 9 * math.sqrt(judgements * share * alternative.ties) + 1
    low, high = max(0, int(judgements * share - spread)), min(judgements, math.ceil(judgements * share + spread))
    decided = np.arange(low, high + 1)
    chances = stats.binom.pmf(decided, judgements, share)
    return float(chances @ decided_power(decided, alternative.preference, alternative.level))


def needed_judgements(alternative: Alternative, power: float) -> int:
    """The fewest independent judgements from which on the sign test has the power.

    The power does not rise with every judgement, since wins are whole numbers: the last dip below it counts.

    Raises:
        InvalidInputError: more than are searched.
    """
    from scipy import stats

    share, edge = alternative.preference, alternative.preference - 0.5
    quantile = stats.norm.isf(alternative.level / 2) / 2 + stats.norm.ppf(power) * math.sqrt(share * (1 - share))
    near = float(max(1.0, (quantile / edge) ** 2) / (1 - alternative.ties))
    if near > MAX_JUDGEMENTS:
        raise InvalidInputError(
            f"preference={alternative.preference} with ties={alternative.ties} needs some {near:,.0f} judgements; at "
            f"most {MAX_JUDGEMENTS:,} are searched: look for a larger preference."
        )
    # Dips lie a few judgements around the normal approximation.
    fewest = math.ceil(near + 6 * math.sqrt(near) + 60 / (1 - alternative.ties))
    while sign_test_power(fewest, alternative) < power:
        fewest *= 2
    while fewest > 1 and sign_test_power(fewest - 1, alternative) >= power:
        fewest -= 1
    return fewest


def simulated_power(alternative: Alternative, participants: int, seed: int = 0) -> float:
    """Power of the sign-flip test over participants whose judgements are alike, of 2,000 simulated studies.

    Args:
        alternative: with its intraclass correlation.
        participants: of a study.
        seed: of the simulation.
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
    """The fewest participants with whom the sign-flip test has the power, by simulation.

    Raises:
        InvalidInputError: more than are searched.
    """
    low, high = 0, 1
    while simulated_power(alternative, high, seed) < power:
        low, high = high, 2 * high
        if high > MAX_PARTICIPANTS:
            raise InvalidInputError(
                f"preference={alternative.preference} with icc={alternative.icc} needs more than {MAX_PARTICIPANTS} "
                "participants; look for a larger preference, or ask each for more judgements."
            )
    while high - low > 1:
        middle = (low + high) // 2
        if simulated_power(alternative, middle, seed) < power:
            low = middle
        else:
            high = middle
    return high


def check_between(value: float, low: float, high: float, name: str) -> None:
    """Refuse what does not lie between two numbers.

    Raises:
        InvalidInputError: naming the value.
    """
    if not low < value < high:
        raise InvalidInputError(f"{name}={value!r}; expected a number above {low:g} and below {high:g}.")
