"""The log of a study: an SQLite file in which every answer is on the disk before the next query is shown."""

import sqlite3
from dataclasses import asdict, fields
from pathlib import Path
from typing import Self, final

from deephash.validation import InvalidInputError
from deephash.web.study.design import SIDE_BY_SIDE, StudyDesign
from deephash.web.study.log_checks import check_answers
from deephash.web.study.log_file import LogFile, refusals
from deephash.web.study.records import GivenAnswer, Judgement, ShownItem, StudiedRun, Study, Trial, check_answer
from deephash.web.study.session_number import random_session_number, session_text

MAX_SESSIONS = 10_000


class UnknownSessionError(InvalidInputError):
    """No session has this number: it never had, or it was deleted."""


class AlreadyAnsweredError(InvalidInputError):
    """The query is not the one that waits for an answer."""


@final
class StudyLog:
    """A log, opened by `create` to add to it or by `read` to analyse it.

    Methods may be called from several threads, and several processes may have one log open.

    Args:
        file: that it is kept in.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._file.path

    @classmethod
    def create(cls, path: Path, study: Study) -> Self:
        """Start a log, or go on with that of the same study.

        Raises:
            InvalidInputError: the file is damaged, or of another study, or something else.
            StorageError: the file cannot be made.
        """
        log = cls(LogFile(path, create=True))
        try:
            with log._file.transaction() as connection:
                if log._file.is_empty():
                    log._file.lay_out()
                    _insert(connection, study)
            log._file.check()
            # Readers do not wait for a writer, and an answer is on the disk when its transaction ends.
            log._file.pragma("journal_mode = WAL")
            log._check_same(study)
        except BaseException:
            log.close()
            raise
        return log

    @classmethod
    def read(cls, path: Path, writable: bool = False) -> Self:
        """Open a log that is there.

        Args:
            path: the file.
            writable: whether sessions are to be deleted.

        Raises:
            InvalidInputError: no file, or one that is damaged, or something else.
        """
        if not path.is_file():
            raise InvalidInputError(f"{path} does not exist; give the --log of deephash study serve.")
        # Not opened as read-only: SQLite then leaves CHECK constraints out of its check for damage.
        log = cls(LogFile(path))
        try:
            log._file.check()
            log._file.pragma(f"query_only = {'OFF' if writable else 'ON'}")
        except BaseException:
            log.close()
            raise
        return log

    def close(self) -> None:
        """Close the file; what was answered is in it, whether this is called or not."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def study(self) -> Study:
        """What the log is of."""
        names = [field.name for field in fields(StudyDesign)]
        with self._file.transaction(writes=False) as connection:
            row = connection.execute(f"SELECT {', '.join(names)}, split, consent FROM study").fetchone()
            runs = connection.execute("SELECT folder, title, hasher FROM run ORDER BY number").fetchall()
        if row is None or len(runs) != 2:
            raise InvalidInputError(f"{self.path} is damaged (it names no study of two runs); restore it from a copy.")
        first, second = (StudiedRun(*run) for run in runs)
        try:
            design = StudyDesign(*row[: len(names)])
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.path} is damaged ({error}); restore it from a copy.") from error
        return Study(design, (first, second), row[-2], row[-1])

    def add_session(self) -> int:
        """A number for a new participant.

        Raises:
            InvalidInputError: there are as many as a log takes.
        """
        with self._file.transaction() as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            if there >= MAX_SESSIONS:
                raise InvalidInputError(f"The study has its {MAX_SESSIONS:,} sessions; it takes no more.")
            taken = True
            while taken:
                number = random_session_number()
                taken = _has_session(connection, number)
            connection.execute("INSERT INTO session VALUES (?)", (number,))
            return number

    def answered(self, session: int) -> int:
        """How many queries a participant has answered.

        Raises:
            UnknownSessionError: no such session.
        """
        with self._file.transaction(writes=False) as connection:
            return self._answered(connection, session)

    def show(self, session: int, trial: Trial) -> Trial:
        """Note what a participant is shown; where it was noted before, as it was then.

        Raises:
            UnknownSessionError: no such session.
        """
        with self._file.transaction() as connection:
            self._answered(connection, session)
            shown = _shown(connection, session, trial.place)
            if shown is not None:
                return shown
            connection.execute("INSERT INTO trial VALUES (?, ?, ?, ?)", (session, trial.place, trial.query, trial.mode))
            connection.executemany(
                "INSERT INTO shown VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (session, trial.place, side, rank, one.item, one.run)
                    for side, items in enumerate(trial.lists)
                    for rank, one in enumerate(items)
                ],
            )
            return trial

    def answer(self, session: int, place: int, given: GivenAnswer) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            UnknownSessionError: no such session.
            AlreadyAnsweredError: the query at that place was answered, or not shown yet.
            InvalidInputError: an answer that does not fit what was shown.
        """
        with self._file.transaction() as connection:
            trial = _shown(connection, session, place)
            if place != self._answered(connection, session) or trial is None:
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
        """Delete all that a session left; its bytes are overwritten.

        Returns:
            How many answers it had.

        Raises:
            UnknownSessionError: no such session.
        """
        with self._file.transaction() as connection:
            answered = self._answered(connection, session)
            connection.execute("DELETE FROM session WHERE number = ?", (session,))
        # The write-ahead log would keep the old pages until it is full.
        self._file.pragma("wal_checkpoint(TRUNCATE)")
        return answered

    def sessions(self) -> int:
        """How many participants there were, those without an answer included."""
        with self._file.transaction(writes=False) as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            return int(there)

    def judgements(self) -> list[Judgement]:
        """All answers, by session and place.

        Raises:
            InvalidInputError: answers that cannot be.
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
        found = []
        with refusals(self.path):
            for session, place, query, mode, choice, seconds in answers:
                key = (session, place)
                if mode != SIDE_BY_SIDE:
                    more = net.get(key, 0)
                    preferred = (more > 0) - (more < 0)
                    found.append(Judgement(session, query, mode, preferred, None, None, rated[(*key, 0)], seconds))
                    continue
                side = {"left": 1, "right": -1}.get(choice, 0)
                sign = 1 if left[key] == 0 else -1
                on_left, on_right = rated[(*key, 0)], rated[(*key, 1)]
                of_runs = (on_left, on_right) if sign == 1 else (on_right, on_left)
                found.append(Judgement(session, query, mode, side * sign, side, of_runs, None, seconds))
        return found

    def _answered(self, connection: sqlite3.Connection, session: int) -> int:
        if not _has_session(connection, session):
            noted = session_text(session)
            raise UnknownSessionError(f"session {noted} is not in the study; it was deleted, or never was there.")
        return int(connection.execute("SELECT COUNT(*) FROM answer WHERE session = ?", (session,)).fetchone()[0])

    def _check_same(self, study: Study) -> None:
        there = self.study()
        mine, other = (
            {
                **asdict(one.design),
                "first run": one.runs[0].hasher,
                "second run": one.runs[1].hasher,
                "split": one.split,
                "consent": one.consent,
            }
            for one in (study, there)
        )
        differing = [name for name in mine if mine[name] != other[name]]
        if differing:
            raise InvalidInputError(
                f"{self.path} holds a study of {there.runs[0].folder} and {there.runs[1].folder} with another "
                f"{', another '.join(differing)}; give the same, or another --log."
            )


def _insert(connection: sqlite3.Connection, study: Study) -> None:
    """Write what a log is of."""
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
    found: tuple[int] | None = connection.execute("SELECT 1 FROM session WHERE number = ?", (session,)).fetchone()
    return found is not None


def _shown(connection: sqlite3.Connection, session: int, place: int) -> Trial | None:
    """What a participant was shown at a place; None where nothing was yet."""
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
    return Trial(place, row[0], row[1], tuple(tuple(one) for one in lists))
