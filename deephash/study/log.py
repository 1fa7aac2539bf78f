"""The log of a study: an SQLite file in which every answer is on the disk before the next query is shown."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from threading import Lock
from typing import Self, final

from deephash.study.design import SIDE_BY_SIDE, StudyDesign
from deephash.study.records import GivenAnswer, Judgement, ShownItem, StudiedRun, Study, Trial
from deephash.validation import InvalidInputError, StorageError

# Which SQLite files are such logs ("dhst"), and in which layout; both stand in the file's head.
APPLICATION, VERSION = 0x64687374, 1
SCHEMA = (
    "CREATE TABLE study (number INTEGER PRIMARY KEY CHECK (number = 1), mode TEXT NOT NULL, seed INTEGER NOT NULL, "
    "depth INTEGER NOT NULL, queries INTEGER NOT NULL, pool INTEGER NOT NULL, direction TEXT NOT NULL, "
    "split TEXT NOT NULL, consent TEXT NOT NULL) STRICT",
    "CREATE TABLE run (number INTEGER PRIMARY KEY CHECK (number IN (0, 1)), folder TEXT NOT NULL, title TEXT NOT NULL, "
    "hasher TEXT NOT NULL) STRICT",
    "CREATE TABLE session (number INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE trial (session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE, place INTEGER NOT NULL, "
    "query INTEGER NOT NULL, mode TEXT NOT NULL CHECK (mode IN ('interleaved', 'side_by_side')), "
    "PRIMARY KEY (session, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE shown (session INTEGER NOT NULL, place INTEGER NOT NULL, side INTEGER NOT NULL, "
    "rank INTEGER NOT NULL, item INTEGER NOT NULL, run INTEGER NOT NULL CHECK (run IN (0, 1)), "
    "PRIMARY KEY (session, place, side, rank), "
    "FOREIGN KEY (session, place) REFERENCES trial ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE answer (session INTEGER NOT NULL, place INTEGER NOT NULL, "
    "choice TEXT CHECK (choice IN ('left', 'right', 'none')), seconds REAL NOT NULL, PRIMARY KEY (session, place), "
    "FOREIGN KEY (session, place) REFERENCES trial ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE rating (session INTEGER NOT NULL, place INTEGER NOT NULL, side INTEGER NOT NULL, "
    "value INTEGER NOT NULL CHECK (value BETWEEN 1 AND 5), PRIMARY KEY (session, place, side), "
    "FOREIGN KEY (session, place) REFERENCES answer ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE click (session INTEGER NOT NULL, place INTEGER NOT NULL, rank INTEGER NOT NULL, "
    "PRIMARY KEY (session, place, rank), "
    "FOREIGN KEY (session, place) REFERENCES answer ON DELETE CASCADE) STRICT, WITHOUT ROWID",
)
# Numbers of 12 digits: short enough to note down, too many to guess one that deletes another's answers.
FEWEST, MOST = 10**11, 10**12
MOST_SESSIONS = 10_000
CHOICES = ("left", "none", "right")
WAIT_SECONDS = 30


class UnknownSessionError(InvalidInputError):
    """No session has this number: it never had, or it was deleted."""


class AlreadyAnsweredError(InvalidInputError):
    """The query is not the one that waits for an answer."""


@final
class StudyLog:
    """A log, opened by `create` to add to it or by `read` to analyse it.

    Methods may be called from several threads, and several processes may have one log open.

    Args:
        path: the file.
        connection: to it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = Lock()

    @classmethod
    def create(cls, path: Path, study: Study) -> Self:
        """Start a log, or go on with that of the same study.

        Raises:
            InvalidInputError: the file is damaged, or of another study, or something else.
            StorageError: the file cannot be made.
        """
        log = cls(path, _connect(path, "rwc"))
        try:
            with log._transaction():
                if log._is_empty():
                    log._lay_out(study)
            log._check()
            # Readers do not wait for a writer, and an answer is on the disk when its transaction ends.
            with _refusals(path):
                log._connection.execute("PRAGMA journal_mode = WAL")
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
        log = cls(path, _connect(path, "rw"))
        try:
            log._check()
            log._connection.execute(f"PRAGMA query_only = {'OFF' if writable else 'ON'}")
        except BaseException:
            log.close()
            raise
        return log

    def close(self) -> None:
        """Close the file; what was answered is in it, whether this is called or not."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def study(self) -> Study:
        """What the log is of."""
        names = [field.name for field in fields(StudyDesign)]
        with self._transaction(writes=False) as connection:
            row = connection.execute(f"SELECT {', '.join(names)}, split, consent FROM study").fetchone()
            runs = connection.execute("SELECT folder, title, hasher FROM run ORDER BY number").fetchall()
        if row is None or len(runs) != 2:
            raise InvalidInputError(f"{self.path} is damaged (it names no study of two runs); restore it from a copy.")
        first, second = (StudiedRun(*run) for run in runs)
        return Study(StudyDesign(*row[: len(names)]), (first, second), row[-2], row[-1])

    def add_session(self) -> int:
        """A number for a new participant.

        Raises:
            InvalidInputError: there are as many as a log takes.
        """
        with self._transaction() as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            if there >= MOST_SESSIONS:
                raise InvalidInputError(f"The study has its {MOST_SESSIONS:,} sessions; it takes no more.")
            taken = True
            while taken:
                number = FEWEST + secrets.randbelow(MOST - FEWEST)
                taken = _has_session(connection, number)
            connection.execute("INSERT INTO session VALUES (?)", (number,))
            return number

    def answered(self, session: int) -> int:
        """How many queries a participant has answered.

        Raises:
            UnknownSessionError: no such session.
        """
        with self._transaction(writes=False) as connection:
            return self._answered(connection, session)

    def show(self, session: int, trial: Trial) -> Trial:
        """Note what a participant is shown; where it was noted before, as it was then.

        Raises:
            UnknownSessionError: no such session.
        """
        with self._transaction() as connection:
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
        with self._transaction() as connection:
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
        with self._transaction() as connection:
            answered = self._answered(connection, session)
            connection.execute("DELETE FROM session WHERE number = ?", (session,))
        # The write-ahead log would keep the old pages until it is full.
        with self._lock, _refusals(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return answered

    def sessions(self) -> int:
        """How many participants there were, those without an answer included."""
        with self._transaction(writes=False) as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM session").fetchone()
            return int(there)

    def judgements(self) -> list[Judgement]:
        """All answers, by session and place."""
        with self._transaction(writes=False) as connection:
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
        with _refusals(self.path):
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

    @contextmanager
    def _transaction(self, writes: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock, _refusals(self.path):
            self._connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _answered(self, connection: sqlite3.Connection, session: int) -> int:
        if not _has_session(connection, session):
            raise UnknownSessionError(f"session {session} is not in the study; it was deleted, or never was there.")
        return int(connection.execute("SELECT COUNT(*) FROM answer WHERE session = ?", (session,)).fetchone()[0])

    def _is_empty(self) -> bool:
        tables = int(self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
        application = int(self._connection.execute("PRAGMA application_id").fetchone()[0])
        return tables == 0 and application == 0

    def _lay_out(self, study: Study) -> None:
        for statement in SCHEMA:
            self._connection.execute(statement)
        self._connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self._connection.execute(f"PRAGMA user_version = {VERSION}")
        design = asdict(study.design)
        self._connection.execute(
            f"INSERT INTO study (number, {', '.join(design)}, split, consent) VALUES (1{', ?' * (len(design) + 2)})",
            (*design.values(), study.split, study.consent),
        )
        self._connection.executemany(
            "INSERT INTO run VALUES (?, ?, ?, ?)",
            [(number, run.folder, run.title, run.hasher) for number, run in enumerate(study.runs)],
        )

    def _check(self) -> None:
        """Refuse a file of something else, of another version, with tables of its own, or a damaged one."""
        with self._transaction(writes=False) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
        if application != APPLICATION:
            raise InvalidInputError(f"{self.path} is an SQLite file of something else; give the log of a study.")
        if version != VERSION:
            raise InvalidInputError(
                f"{self.path} is a log of version {version}; expected {VERSION}: use the deephash that made it."
            )
        if tables != set(SCHEMA):
            damage = "its tables are others"
        elif damage == "ok" and orphan is not None:
            damage = f"a row of {orphan[0]} belongs to none of {orphan[2]}"
        if damage != "ok":
            raise InvalidInputError(f"{self.path} is damaged ({' '.join(damage.split())}); restore it from a copy.")

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


def check_answer(trial: Trial, given: GivenAnswer) -> None:
    """Refuse an answer that does not fit what was shown.

    Raises:
        InvalidInputError: a choice where there is none or none where there is one, clicks on what was not shown, or
            ratings that are missing or out of bounds.
    """
    sides = trial.mode == SIDE_BY_SIDE
    if (given.choice in CHOICES) != sides or (given.choice is not None) != sides:
        raise InvalidInputError(f"choice={given.choice!r}; expected {', '.join(CHOICES) if sides else 'none'}.")
    ranks = range(0 if sides else len(trial.lists[0]))
    if len(set(given.clicks)) != len(given.clicks) or any(rank not in ranks for rank in given.clicks):
        raise InvalidInputError(f"clicks={list(given.clicks)}; expected different ranks below {len(ranks)}.")
    if len(given.ratings) != len(trial.lists) or any(not 1 <= value <= 5 for value in given.ratings):
        raise InvalidInputError(f"ratings={list(given.ratings)}; expected {len(trial.lists)} from 1 to 5.")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file; what it holds is checked later."""
    with _refusals(path):
        if mode == "rwc" and not path.parent.is_dir():
            raise StorageError(f"{path} cannot be made: its folder does not exist; choose another --log.")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=WAIT_SECONDS,
            check_same_thread=False,
        )
        try:
            # What is deleted is overwritten; functions that a foreign file's own definitions name are not run.
            for setting in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """SQLite's errors as one line."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # What a disk or another program does, and not the file's contents.
        if isinstance(error, sqlite3.OperationalError) and "UTF-8" not in str(error):
            raise StorageError(
                f"{path} cannot be used ({error}); earlier answers are kept: see to the disk or choose another file."
            ) from error
        raise InvalidInputError(
            f"{path} is no log of a study, or damaged ({error}); restore it from a copy."
        ) from error
    except UnicodeError as error:  # a damaged schema, whose words stand in SQLite's message
        raise InvalidInputError(f"{path} is damaged (its tables are no text); restore it from a copy.") from error
    except KeyError as error:
        raise InvalidInputError(f"{path} is damaged (an answer lacks a rating); restore it from a copy.") from error


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


def session_text(session: int) -> str:
    """A number as it is noted down, in groups of four digits."""
    digits = str(session)
    return " ".join(digits[place : place + 4] for place in range(0, len(digits), 4))


def session_number(text: str) -> int:
    """The number that was noted down.

    Raises:
        InvalidInputError: no number of 12 digits.
    """
    digits = "".join(text.replace("-", " ").split())
    if not (digits.isascii() and digits.isdecimal() and FEWEST <= int(digits[:20]) < MOST):
        raise InvalidInputError(f"session={text!r}; expected its 12 digits, as 1234 5678 9012.")
    return int(digits)
