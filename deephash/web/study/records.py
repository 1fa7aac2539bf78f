"""What a study is of, what it shows, and what participants answer."""

from dataclasses import dataclass
from typing import final

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE, StudyDesign

CHOICES = ("left", "none", "right")
# A day; the page measures no longer.
MAX_SECONDS = 86_400


@final
@dataclass(frozen=True)
class StudiedRun:
    """A run of a study.

    Args:
        folder: its name, without the path to it.
        title: method, bits and data in words.
        hasher: identity of its hasher.
    """

    folder: str
    title: str
    hasher: str


@final
@dataclass(frozen=True)
class Study:
    """What a log is of.

    Args:
        design: its settings.
        runs: the first and the second.
        split: hash of the split that both share.
        consent: the text that participants agreed to.
    """

    design: StudyDesign
    runs: tuple[StudiedRun, StudiedRun]
    split: str
    consent: str


@final
@dataclass(frozen=True)
class ShownItem:
    """An item of a list.

    Args:
        item: its row in the data set.
        run: whose it is, 0 or 1.
    """

    item: int
    run: int


@final
@dataclass(frozen=True)
class Trial:
    """A query as it was shown.

    Args:
        place: among the participant's queries, from 0.
        query: its row in the data set.
        mode: interleaved or side_by_side.
        lists: one, or the left one and the right one.
    """

    place: int
    query: int
    mode: str
    lists: tuple[tuple[ShownItem, ...], ...]


@final
@dataclass(frozen=True)
class GivenAnswer:
    """What a participant answered.

    Args:
        choice: left, right or none; None where the lists were interleaved.
        clicks: ranks of the items of the interleaved list that were marked as good.
        ratings: from 1 to 5, of each list.
        seconds: since the lists were shown.
    """

    choice: str | None
    clicks: tuple[int, ...]
    ratings: tuple[int, ...]
    seconds: float


@final
@dataclass(frozen=True)
class Judgement:
    """An answered query, as it is analysed.

    Args:
        session: the participant's number.
        query: its row in the data set.
        mode: interleaved or side_by_side.
        preferred: 1 the first run, -1 the second, 0 neither.
        side: 1 the left list, -1 the right one, 0 neither; None where the lists were interleaved.
        ratings: of the first run's list and of the second's; None where they were interleaved.
        rating: of the interleaved list; None where there was none.
        seconds: that it took.
    """

    session: int
    query: int
    mode: str
    preferred: int
    side: int | None
    ratings: tuple[int, int] | None
    rating: int | None
    seconds: float


def check_answer(trial: Trial, given: GivenAnswer) -> None:
    """Raise an error for an answer that does not fit what was shown.

    Raises:
        InvalidInputError: a choice where there is none or none where there is one, clicks on what was not shown,
            ratings that are missing or out of bounds, or seconds that cannot be.
    """
    sides = trial.mode == SIDE_BY_SIDE
    if (given.choice in CHOICES) != sides or (given.choice is not None) != sides:
        raise InvalidInputError(f"choice={given.choice!r}; expected {', '.join(CHOICES) if sides else 'none'}.")
    ranks = range(0 if sides else len(trial.lists[0]))
    if len(set(given.clicks)) != len(given.clicks) or any(rank not in ranks for rank in given.clicks):
        raise InvalidInputError(f"clicks={list(given.clicks)}; expected different ranks below {len(ranks)}.")
    if len(given.ratings) != len(trial.lists) or any(not 1 <= value <= 5 for value in given.ratings):
        raise InvalidInputError(f"ratings={list(given.ratings)}; expected {len(trial.lists)} from 1 to 5.")
    if not 0 <= given.seconds <= MAX_SECONDS:
        raise InvalidInputError(f"seconds={given.seconds}; expected a number from 0 to {MAX_SECONDS:,}.")
