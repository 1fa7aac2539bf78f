"""Logs that are filled as the page fills them."""

import pytest

from deephash.web.study.design import INTERLEAVED, StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.records import GivenAnswer, ShownItem, StudiedRun, Study, Trial


@pytest.fixture
def study():
    runs = (StudiedRun("itq", "itq · sbq, 32 bits", "a" * 64), StudiedRun("lsh", "lsh · sbq, 32 bits", "b" * 64))
    return Study(StudyDesign(), runs, "split", "What is kept: nothing of yours.")


@pytest.fixture
def log(tmp_path, study):
    with StudyLog.create(tmp_path / "study.sqlite", study) as log:
        yield log


def sided(place, query, left):
    """A query side by side, with the list of run `left` on the left."""
    lists = tuple(tuple(ShownItem(10 * run + rank, run) for rank in range(3)) for run in (left, 1 - left))
    return Trial(place, query, "side_by_side", lists)


def mixed(place, query, teams):
    """An interleaved query whose items are of these runs."""
    return Trial(place, query, INTERLEAVED, (tuple(ShownItem(rank, run) for rank, run in enumerate(teams)),))


@pytest.fixture
def trials():
    return sided, mixed


@pytest.fixture
def judge():
    """A function that has a participant judge as told: what is preferred, 1, 0 or -1, and ratings of both runs."""

    def judged(log, session, query, preferred, ratings=(3, 3), left=0, seconds=2.0):
        place = log.count_answers(session)
        log.show(session, sided(place, query, left))
        side = preferred * (1 if left == 0 else -1)
        choice = {1: "left", 0: "none", -1: "right"}[side]
        log.answer(session, place, GivenAnswer(choice, (), ratings if left == 0 else ratings[::-1], seconds))

    return judged
