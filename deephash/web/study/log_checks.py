"""What a log of a study cannot hold, however it was written: answers that no participant could give."""

import sqlite3
from pathlib import Path

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE
from deephash.web.study.records import MAX_SECONDS
from deephash.web.study.session_number import FEWEST, MOST, session_text

SIDED = f"mode = '{SIDE_BY_SIDE}'"
# What is wrong, and the sessions and places where it is.
IMPOSSIBLE = {
    "the session has a number that is never given": (
        f"SELECT number, 0 FROM session WHERE number NOT BETWEEN {FEWEST} AND {MOST - 1}"
    ),
    f"the answer took no number of seconds from 0 to {MAX_SECONDS:,}": (
        f"SELECT session, place FROM answer WHERE seconds NOT BETWEEN 0 AND {MAX_SECONDS}"
    ),
    "an answer before it is missing": (
        "SELECT session, MAX(place) FROM answer GROUP BY session HAVING MIN(place) <> 0 OR MAX(place) <> COUNT(*) - 1"
    ),
    "the query is no row of the data": "SELECT session, place FROM trial WHERE query < 0",
    "the lists have a form that the study does not show": (
        "SELECT session, place FROM trial, study WHERE study.mode <> 'both' AND trial.mode <> study.mode"
    ),
    "a list has gaps, or items of a run that is not its own": (
        "SELECT session, place FROM shown JOIN trial USING (session, place) GROUP BY session, place, side "
        "HAVING MIN(rank) <> 0 OR MAX(rank) <> COUNT(*) - 1 OR COUNT(DISTINCT item) <> COUNT(*) OR MIN(item) < 0 "
        f"OR ({SIDED} AND MIN(run) <> MAX(run))"
    ),
    "other lists were shown than one, or the left and the right": (
        "SELECT session, place FROM trial LEFT JOIN shown USING (session, place) GROUP BY session, place "
        f"HAVING COUNT(DISTINCT side) <> 1 + ({SIDED}) OR MIN(side) <> 0 OR MAX(side) <> ({SIDED}) "
        f"OR ({SIDED} AND COUNT(DISTINCT run) <> 2)"
    ),
    "a preference is given where there is none to give, or missing": (
        f"SELECT session, place FROM answer JOIN trial USING (session, place) WHERE ({SIDED}) <> (choice IS NOT NULL)"
    ),
    "the ratings are not one of each list": (
        "SELECT session, place FROM answer JOIN trial USING (session, place) LEFT JOIN rating USING (session, place) "
        f"GROUP BY session, place HAVING COUNT(side) <> 1 + ({SIDED}) OR MIN(side) <> 0 OR MAX(side) <> ({SIDED})"
    ),
    "an item is marked that was not shown, or in a list where none is marked": (
        "SELECT session, place FROM click JOIN trial USING (session, place) "
        "LEFT JOIN (SELECT session, place, rank, item FROM shown WHERE side = 0) USING (session, place, rank) "
        f"WHERE {SIDED} OR item IS NULL"
    ),
}


def check_answers(connection: sqlite3.Connection, path: Path) -> None:
    """Raise an error for a log with an answer that cannot be.

    Args:
        connection: to the log, within a transaction.
        path: of the log.

    Raises:
        InvalidInputError: naming what is wrong and where.
    """
    for wrong, query in IMPOSSIBLE.items():
        found = connection.execute(f"{query} LIMIT 1").fetchone()
        if found is not None:
            raise InvalidInputError(
                f"{path} holds an answer that cannot be: query {found[1] + 1} of session {session_text(found[0])}, "
                f"where {wrong}; restore the log from a copy, or delete the session with deephash study delete."
            )
