"""Records of a study: its runs, the lists shown, and the answers of participants."""

from dataclasses import dataclass
from typing import final

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE, StudyDesign

CHOICES = ("left", "none", "right")
# A day, the most that the page measures.
MAX_SECONDS = 86_400


@final
@dataclass(frozen=True)
class StudiedRun:
    """A run of a study.

    Args:
        folder: name of its folder, without the path.
        title: method, bits and data in words.
        hasher: identity of its hasher.
    """

    folder: str
    title: str
    hasher: str


@final
@dataclass(frozen=True)
class Study:
    """The study of a log.

    Args:
        design: its settings.
        runs: the first and the second run.
        split: hash of their split.
        consent: the consent text.
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
        run: its run, 0 or 1.
    """

    item: int
    run: int


@final
@dataclass(frozen=True)
class Trial:
    """A query with the lists shown.

    Args:
        place: position among the queries of the participant, from 0.
        query: its row in the data set.
        mode: interleaved or side_by_side.
        lists: one list, or the left and the right list.
    """

    place: int
    query: int
    mode: str
    lists: tuple[tuple[ShownItem, ...], ...]


@final
@dataclass(frozen=True)
class GivenAnswer:
    """The answer of a participant.

    Args:
        choice: left, right or none; None for interleaved lists.
        clicks: ranks of the items marked as good in an interleaved list.
        ratings: rating of each list from 1 to 5.
        seconds: time since the lists were shown.
    """

    choice: str | None
    clicks: tuple[int, ...]
    ratings: tuple[int, ...]
    seconds: float


@final
@dataclass(frozen=True)
class Judgement:
    """An answered query for the analysis.

    Args:
        session: number of the participant.
        query: its row in the data set.
        mode: interleaved or side_by_side.
        preferred: 1 for the first run, -1 for the second, 0 for neither.
        side: 1 for the left list, -1 for the right one, 0 for neither; None for interleaved lists.
        ratings: ratings of the lists of the first and the second run; None for interleaved lists.
        rating: rating of the interleaved list; None for lists side by side.
        seconds: time that the answer took.
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
    """Raise an error if an answer does not fit the lists shown.

    Raises:
        InvalidInputError: the choice is missing or superfluous, clicks are not on shown items, ratings are missing or
            out of bounds, or the time is impossible.
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
