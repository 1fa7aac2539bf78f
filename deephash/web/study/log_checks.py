"""Checks of a log for answers that no participant could give."""

import sqlite3
from pathlib import Path

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE
from deephash.web.study.records import MAX_SECONDS
from deephash.web.study.session_number import END_NUMBER, MIN_NUMBER, format_session

SIDED = f"mode = '{SIDE_BY_SIDE}'"
# Fault → SQL query of the sessions and places that have it.
IMPOSSIBLE = {
    "the session number is out of range": (
        f"SELECT number, 0 FROM session WHERE number NOT BETWEEN {MIN_NUMBER} AND {END_NUMBER - 1}"
    ),
    f"the seconds are not from 0 to {MAX_SECONDS:,}": (
        f"SELECT session, place FROM answer WHERE seconds NOT BETWEEN 0 AND {MAX_SECONDS}"
    ),
    "an earlier answer is missing": (
        "SELECT session, MAX(place) FROM answer GROUP BY session HAVING MIN(place) <> 0 OR MAX(place) <> COUNT(*) - 1"
    ),
    "the query is not a row of the data": "SELECT session, place FROM trial WHERE query < 0",
    "the study does not show lists of this form": (
        "SELECT session, place FROM trial, study WHERE study.mode <> 'both' AND trial.mode <> study.mode"
    ),
    "a list has gaps or items of another run": (
        "SELECT session, place FROM shown JOIN trial USING (session, place) GROUP BY session, place, side "
        "HAVING MIN(rank) <> 0 OR MAX(rank) <> COUNT(*) - 1 OR COUNT(DISTINCT item) <> COUNT(*) OR MIN(item) < 0 "
        f"OR ({SIDED} AND MIN(run) <> MAX(run))"
    ),
    "the lists shown are not one, or a left and a right one": (
        "SELECT session, place FROM trial LEFT JOIN shown USING (session, place) GROUP BY session, place "
        f"HAVING COUNT(DISTINCT side) <> 1 + ({SIDED}) OR MIN(side) <> 0 OR MAX(side) <> ({SIDED}) "
        f"OR ({SIDED} AND COUNT(DISTINCT run) <> 2)"
    ),
    "the preference is missing or superfluous": (
        f"SELECT session, place FROM answer JOIN trial USING (session, place) WHERE ({SIDED}) <> (choice IS NOT NULL)"
    ),
    "there is not one rating of each list": (
        "SELECT session, place FROM answer JOIN trial USING (session, place) LEFT JOIN rating USING (session, place) "
        f"GROUP BY session, place HAVING COUNT(side) <> 1 + ({SIDED}) OR MIN(side) <> 0 OR MAX(side) <> ({SIDED})"
    ),
    "an item is marked that was not shown, or in a list without marks": (
        "SELECT session, place FROM click JOIN trial USING (session, place) "
        "LEFT JOIN (SELECT session, place, rank, item FROM shown WHERE side = 0) USING (session, place, rank) "
        f"WHERE {SIDED} OR item IS NULL"
    ),
}


def check_answers(connection: sqlite3.Connection, path: Path) -> None:
    """Raise an error if a log holds an impossible answer.

    Args:
        connection: connection to the log, within a transaction.
        path: path of the log.

    Raises:
        InvalidInputError: an answer is impossible.
    """
    for fault, query in IMPOSSIBLE.items():
        row = connection.execute(f"{query} LIMIT 1").fetchone()
        if row is not None:
            raise InvalidInputError(
                f"{path} holds an impossible answer: query {row[1] + 1} of session {format_session(row[0])}, "
                f"where {fault}; restore the log from a copy, or delete the session with deephash study delete."
            )
