"""The design of a study: the queries of each participant and the form of their lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from deephash.validation import InvalidInputError, check_choice, check_count

INTERLEAVED, SIDE_BY_SIDE, BOTH = "interleaved", "side_by_side", "both"
MAX_DEPTH, MAX_QUERIES = 100, 1000


@final
@dataclass(frozen=True)
class StudyDesign:
    """Settings of a study, which all participants share.

    Args:
        mode: interleaved shows one list, to which both runs add items in turns (team draft). side_by_side shows a list
            of each run. both shows half of the queries in each form, in random order.
        seed: seed of all draws, together with the number of the participant.
        depth: items per list.
        queries: maximum number of queries per participant.
        pool: number of queries in the study, drawn from the runs' own; all if there are fewer. A smaller pool gives
            more judgements per query.
        direction: direction of search, such as image_to_text; empty for runs of one view.

    Raises:
        InvalidInputError: the mode is unknown, or a number is out of bounds.
    """

    mode: str = BOTH
    seed: int = 0
    depth: int = 10
    queries: int = 20
    pool: int = 100
    direction: str = ""

    def __post_init__(self) -> None:
        check_choice(self.mode, (INTERLEAVED, SIDE_BY_SIDE, BOTH), "mode")
        for name, maximum in (("depth", MAX_DEPTH), ("queries", MAX_QUERIES), ("pool", None)):
            value = getattr(self, name)
            check_count(value, name)
            if maximum is not None and value > maximum:
                raise InvalidInputError(f"{name}={value}; expected at most {maximum}.")
        if not 0 <= self.seed < 2**32:
            raise InvalidInputError(f"seed={self.seed}; expected a whole number from 0 to {2**32 - 1}.")


@final
@dataclass(frozen=True)
class PlannedTrial:
    """A query planned for a participant.

    Args:
        query: its row in the data set.
        mode: interleaved or side_by_side.
        left: run of the left list, 0 or 1, drawn at random; ignored for interleaved lists.
        seed: seed of the order of ties and of the team draft.
    """

    query: int
    mode: str
    left: int
    seed: int


def draw_pool(rows: Sequence[int], design: StudyDesign) -> np.ndarray:
    """Draw the queries of the study, int64, from the runs' own."""
    draw = np.random.default_rng(design.seed)
    return draw.choice(np.asarray(rows, np.int64), min(design.pool, len(rows)), replace=False)


def plan_trials(pool: Sequence[int], design: StudyDesign, session: int) -> list[PlannedTrial]:
    """Plan the queries of a participant in order; the same session always gets the same plan.

    Args:
        pool: as returned by `draw_pool`.
        design: design of the study.
        session: number of the participant.
    """
    draw = np.random.default_rng([design.seed, session])
    queries = draw.permutation(np.asarray(pool, np.int64))[: design.queries]
    halves = draw.permutation(np.arange(len(queries)) % 2)
    modes = [(INTERLEAVED, SIDE_BY_SIDE)[half] if design.mode == BOTH else design.mode for half in halves]
    lefts = draw.integers(0, 2, len(queries))
    seeds = draw.integers(0, 2**62, len(queries))
    return [
        PlannedTrial(int(query), mode, int(left), int(seed))
        for query, mode, left, seed in zip(queries, modes, lefts, seeds, strict=True)
    ]
