"""The log of a study: an SQLite file in which each answer is stored before the next query is shown."""

import sqlite3
from dataclasses import asdict, fields
from pathlib import Path
from typing import Self, final

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE, StudyDesign
from deephash.web.study.log_checks import check_answers
from deephash.web.study.log_file import LogFile, translate_errors
from deephash.web.study.records import GivenAnswer, Judgement, ShownItem, StudiedRun, Study, Trial, check_answer
from deephash.web.study.session_number import draw_session_number, format_session

MAX_SESSIONS = 10_000


class UnknownSessionError(InvalidInputError):
    """Error for a session that is not in the log; it may have been deleted."""


class AlreadyAnsweredError(InvalidInputError):
    """Error for an answer to a query that is already answered or not shown yet."""


@final
class StudyLog:
    """A log, opened by `create` to write or by `read` to analyse it.

    It is safe to share between threads and processes.

    Args:
        file: its file.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._file.path

    @classmethod
    def create(cls, path: Path, study: Study) -> Self:
        """Create a log, or continue the log of the same study.

        Raises:
            InvalidInputError: the file is damaged, of another study, or not a log.
            StorageError: the file cannot be created.
        """
        log = cls(LogFile(path, create=True))
        try:
            with log._file.transaction() as connection:
                if log._file.is_empty():
                    log._file.create_tables()
                    _insert(connection, study)
            log._file.check()
            # With WAL, readers do not wait for a writer.
            log._file.pragma("journal_mode = WAL")
            log._check_same(study)
        except BaseException:
            log.close()
            raise
        return log

    @classmethod
    def read(cls, path: Path, writable: bool = False) -> Self:
        """Open an existing log.

        Args:
            path: the file.
            writable: whether sessions may be deleted.

        Raises:
            InvalidInputError: the file is missing, damaged, or not a log.
        """
        if not path.is_file():
            raise InvalidInputError(f"{path} does not exist; give the --log of deephash study serve.")
        # The file is not opened as read-only, because SQLite would then skip CHECK constraints.
        log = cls(LogFile(path))
        try:
            log._file.check()
            log._file.pragma(f"query_only = {'OFF' if writable else 'ON'}")
        except BaseException:
            log.close()
            raise
        return log

    def close(self) -> None:
        """Close the file. Answers are in it even without this call."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def study(self) -> Study:
        """Return the study of the log."""
        names = [field.name for field in fields(StudyDesign)]
        with self._file.transaction(writes=False) as connection:
            row = connection.execute(f"SELECT {', '.join(names)}, split, consent FROM study").fetchone()
            runs = connection.execute("SELECT folder, title, hasher FROM run ORDER BY number").fetchall()
        if row is None or len(runs) != 2:
            raise InvalidInputError(f"{self.path} is damaged (it holds no study of two runs); restore it from a copy.")
        first, second = (StudiedRun(*run) for run in runs)
        try:
            design = StudyDesign(*row[: len(names)])
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.path} is damaged ({error}); restore it from a copy.") from error
        return Study(design, (first, second), row[-2], row[-1])

    def add_session(self) -> int:
        """Add a participant and return the number of the session.

        Raises:
            InvalidInputError: the log is full.
        """
        with self._file.transaction() as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            if count >= MAX_SESSIONS:
                raise InvalidInputError(f"The study has reached its limit of {MAX_SESSIONS:,} sessions.")
            taken = True
            while taken:
                number = draw_session_number()
                taken = _has_session(connection, number)
            connection.execute("INSERT INTO session VALUES (?)", (number,))
            return number

    def count_answers(self, session: int) -> int:
        """Return the number of queries that a participant has answered.

        Raises:
            UnknownSessionError: the log has no such session.
        """
        with self._file.transaction(writes=False) as connection:
            return self._count_answers(connection, session)

    def show(self, session: int, trial: Trial) -> Trial:
        """Record the lists shown to a participant, or return the lists recorded earlier for that place.

        Raises:
            UnknownSessionError: the log has no such session.
        """
        with self._file.transaction() as connection:
            self._count_answers(connection, session)
            shown = _read_trial(connection, session, trial.place)
            if shown is not None:
                return shown
            connection.execute("INSERT INTO trial VALUES (?, ?, ?, ?)", (session, trial.place, trial.query, trial.mode))
            connection.executemany(
                "INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (session, trial.place, side, rank, shown_item.item, shown_item.run)
                    for side, items in enumerate(trial.lists)
                    for rank, shown_item in enumerate(items)
                ],
            )
            return trial

    def answer(self, session: int, place: int, given: GivenAnswer) -> None:
        """Store an answer on the disk.

        Raises:
            UnknownSessionError: the log has no such session.
            AlreadyAnsweredError: the query at that place is answered or not shown yet.
            InvalidInputError: the answer does not fit the lists shown.
        """
        with self._file.transaction() as connection:
            trial = _read_trial(connection, session, place)
            if place != self._count_answers(connection, session) or trial is None:
                raise AlreadyAnsweredError(f"Query {place + 1} is not waiting for an answer; reload the page.")
            check_answer(trial, given)
            connection.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (session, place, given.choice, given.seconds))
            connection.executemany(
                "INSERT INTO rating VALUES (?, ?, ?, ?)",
                [(session, place, side, value) for side, value in enumerate(given.ratings)],
            )
            connection.executemany(
                "INSERT INTO click VALUES (?, ?, ?)", [(session, place, rank) for rank in given.clicks]
            )

    def delete(self, session: int) -> int:
        """Delete all data of a session and overwrite their bytes.

        Returns:
            The number of its answers.

        Raises:
            UnknownSessionError: the log has no such session.
        """
        with self._file.transaction() as connection:
            answers = self._count_answers(connection, session)
            connection.execute("DELETE FROM session WHERE number = ?", (session,))
        # Otherwise the write-ahead log keeps the old pages until it is full.
        self._file.pragma("wal_checkpoint(TRUNCATE)")
        return answers

    def count_sessions(self) -> int:
        """Return the number of participants, including those without an answer."""
        with self._file.transaction(writes=False) as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            return int(count)

    def judgements(self) -> list[Judgement]:
        """Return all answers by session and place.

        Raises:
            InvalidInputError: an answer is impossible.
        """
        with self._file.transaction(writes=False) as connection:
            check_answers(connection, self.path)
            answers = connection.execute(
                "SELECT session, place, query, mode, choice, seconds FROM answer JOIN trial USING (session, place) "
                "ORDER BY session, place"
            ).fetchall()
            lefts = connection.execute(
                "SELECT session, place, run FROM shown JOIN trial USING (session, place) "
                "WHERE mode = ? AND side = 0 AND rank = 0",
                (SIDE_BY_SIDE,),
            ).fetchall()
            clicks = connection.execute(
                "SELECT session, place, SUM(run = 0) - SUM(run = 1) FROM click "
                "JOIN shown USING (session, place, rank) WHERE side = 0 GROUP BY session, place"
            ).fetchall()
            ratings = connection.execute("SELECT session, place, side, value FROM rating").fetchall()
        left = {(session, place): run for session, place, run in lefts}
        net = {(session, place): more for session, place, more in clicks}
        rated = {(session, place, side): value for session, place, side, value in ratings}
        judgements = []
        with translate_errors(self.path):
            for session, place, query, mode, choice, seconds in answers:
                key = (session, place)
                if mode != SIDE_BY_SIDE:
                    more = net.get(key, 0)
                    preferred = (more > 0) - (more < 0)
                    judgements.append(Judgement(session, query, mode, preferred, None, None, rated[(*key, 0)], seconds))
                    continue
                side = {"left": 1, "right": -1}.get(choice, 0)
                sign = 1 if left[key] == 0 else -1
                on_left, on_right = rated[(*key, 0)], rated[(*key, 1)]
                of_runs = (on_left, on_right) if sign == 1 else (on_right, on_left)
                judgements.append(Judgement(session, query, mode, side * sign, side, of_runs, None, seconds))
        return judgements

    def _count_answers(self, connection: sqlite3.Connection, session: int) -> int:
        if not _has_session(connection, session):
            raise UnknownSessionError(
                f"session {format_session(session)} is not in the study; check the number, or it was deleted."
            )
        return int(connection.execute("SELECT COUNT(*) FROM answer WHERE session = ?", (session,)).fetchone()[0])

    def _check_same(self, study: Study) -> None:
        stored = self.study()
        new_values, stored_values = (
            {
                **asdict(of_log.design),
                "first run": of_log.runs[0].hasher,
                "second run": of_log.runs[1].hasher,
                "split": of_log.split,
                "consent": of_log.consent,
            }
            for of_log in (study, stored)
        )
        differing = [name for name in new_values if new_values[name] != stored_values[name]]
        if differing:
            raise InvalidInputError(
                f"{self.path} holds a study of {stored.runs[0].folder} and {stored.runs[1].folder} with another "
                f"{', another '.join(differing)}; use the same settings, or another --log."
            )


def _insert(connection: sqlite3.Connection, study: Study) -> None:
    """Write the study of a new log."""
    design = asdict(study.design)
    connection.execute(
        f"INSERT INTO study (number, {', '.join(design)}, split, consent) VALUES (1{', ?' * (len(design) + 2)})",
        (*design.values(), study.split, study.consent),
    )
    connection.executemany(
        "INSERT INTO run VALUES (?, ?, ?, ?)",
        [(number, run.folder, run.title, run.hasher) for number, run in enumerate(study.runs)],
    )


def _has_session(connection: sqlite3.Connection, session: int) -> bool:
    row: tuple[int] | None = connection.execute("SELECT 1 FROM session WHERE number = ?", (session,)).fetchone()
    return row is not None


def _read_trial(connection: sqlite3.Connection, session: int, place: int) -> Trial | None:
    """Return the lists shown to a participant at a place; None if nothing was shown yet."""
    row = connection.execute(
        "SELECT query, mode FROM trial WHERE session = ? AND place = ?", (session, place)
    ).fetchone()
    if row is None:
        return None
    lists: list[list[ShownItem]] = [[] for _ in range(2 if row[1] == SIDE_BY_SIDE else 1)]
    for side, item, run in connection.execute(
        "SELECT side, item, run FROM shown WHERE session = ? AND place = ? ORDER BY side, rank", (session, place)
    ):
        lists[side].append(ShownItem(item, run))
    return Trial(place, row[0], row[1], tuple(tuple(items) for items in lists))
