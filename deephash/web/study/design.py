"""How a study is laid out: which queries each participant sees, and in which form."""

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
    """Settings of a study; participants of one study share them.

    Args:
        mode: interleaved, one list of both runs' items by team draft; side_by_side, a list of each; both, half the
            queries in either form, in random order.
        seed: of all draws, with a participant's number.
        depth: items a list.
        queries: that a participant is asked, at most.
        pool: queries that are asked at all, drawn from the runs' own; all where there are fewer. The fewer, the more
            judgements each gets.
        direction: which view asks and which is searched, as image_to_text; empty where the runs have one view.

    Raises:
        InvalidInputError: another mode, or a number out of bounds.
    """

    mode: str = BOTH
    seed: int = 0
    depth: int = 10
    queries: int = 20
    pool: int = 100
    direction: str = ""

    def __post_init__(self) -> None:
        check_choice(self.mode, (INTERLEAVED, SIDE_BY_SIDE, BOTH), "mode")
        for name, most in (("depth", MAX_DEPTH), ("queries", MAX_QUERIES), ("pool", None)):
            value = getattr(self, name)
            check_count(value, name)
            if most is not None and value > most:
                raise InvalidInputError(f"{name}={value}; expected at most {most}.")
        if not 0 <= self.seed < 2**32:
            raise InvalidInputError(f"seed={self.seed}; expected a whole number from 0 to {2**32 - 1}.")


@final
@dataclass(frozen=True)
class PlannedTrial:
    """One query as a participant is to see it.

    Args:
        query: its row in the data set.
        mode: interleaved or side_by_side.
        left: run of the list on the left, 0 or 1, drawn by coin; without effect where the lists are interleaved.
        seed: of the order of ties and of the team draft.
    """

    query: int
    mode: str
    left: int
    seed: int


def drawn_pool(rows: Sequence[int], design: StudyDesign) -> np.ndarray:
    """The queries that the study asks at all, int64, drawn from the runs' own."""
    draw = np.random.default_rng(design.seed)
    return draw.choice(np.asarray(rows, np.int64), min(design.pool, len(rows)), replace=False)


def planned_trials(pool: Sequence[int], design: StudyDesign, session: int) -> list[PlannedTrial]:
    """A participant's queries in order; the same for the same number.

    Args:
        pool: as `drawn_pool` gives it.
        design: of the study.
        session: the participant's number.
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
