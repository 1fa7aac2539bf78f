"""The log of a study: complete after any kill, without personal data, and an error for other files."""

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from deephash.validation import InvalidInputError, StorageError
from deephash.web.study.consent import get_consent
from deephash.web.study.log import AlreadyAnsweredError, StudyLog, UnknownSessionError
from deephash.web.study.records import GivenAnswer
from deephash.web.study.session_number import format_session, parse_session


def test_judgements_say_which_run_was_preferred(log, trials):
    sided, mixed = trials
    session = log.add_session()
    given = [
        (sided(0, 7, left=0), GivenAnswer("left", (), (5, 2), 1.5)),
        (sided(1, 8, left=1), GivenAnswer("left", (), (4, 3), 2.5)),
        (sided(2, 9, left=1), GivenAnswer("none", (), (3, 1), 3.5)),
        (mixed(3, 7, [0, 1, 1, 0]), GivenAnswer(None, (0, 1, 3), (4,), 4.5)),
        (mixed(4, 8, [0, 1, 1, 0]), GivenAnswer(None, (1, 2), (2,), 5.5)),
        (mixed(5, 9, [1, 0, 0, 1]), GivenAnswer(None, (), (1,), 6.5)),
    ]
    for trial, answer in given:
        assert log.show(session, trial) == trial
        log.answer(session, trial.place, answer)
    found = log.judgements()
    assert [one.preferred for one in found] == [1, -1, 0, 1, -1, 0]
    assert [one.side for one in found] == [1, 1, 0, None, None, None]
    assert [one.ratings for one in found] == [(5, 2), (3, 4), (1, 3), None, None, None]
    assert [one.rating for one in found] == [None, None, None, 4, 2, 1]
    assert [one.seconds for one in found] == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert {one.session for one in found} == {session}


def test_what_was_shown_stays(log, trials):
    sided, mixed = trials
    session = log.add_session()
    log.show(session, sided(0, 7, left=1))
    assert log.show(session, mixed(0, 8, [0, 1])) == sided(0, 7, left=1)


@pytest.mark.parametrize(
    "given",
    [
        GivenAnswer(None, (), (3, 3), 1.0),
        GivenAnswer("first", (), (3, 3), 1.0),
        GivenAnswer("left", (0,), (3, 3), 1.0),
        GivenAnswer("left", (), (3,), 1.0),
        GivenAnswer("left", (), (3, 6), 1.0),
        GivenAnswer("left", (), (0, 3), 1.0),
        GivenAnswer("left", (), (3, 3), -1.0),
        GivenAnswer("left", (), (3, 3), float("inf")),
        GivenAnswer("left", (), (3, 3), float("nan")),
        GivenAnswer("left", (), (3, 3), 86_401.0),
    ],
)
def test_answer_that_does_not_fit_is_refused_whole(log, trials, given):
    session = log.add_session()
    log.show(session, trials[0](0, 7, left=0))
    with pytest.raises(InvalidInputError, match="expected"):
        log.answer(session, 0, given)
    assert log.count_answers(session) == 0
    log.answer(session, 0, GivenAnswer("left", (), (3, 3), 1.0))


@pytest.mark.parametrize("clicks", [(4,), (-1,), (1, 1)])
def test_clicks_on_what_was_not_shown_are_refused(log, trials, clicks):
    session = log.add_session()
    log.show(session, trials[1](0, 7, [0, 1, 1, 0]))
    with pytest.raises(InvalidInputError, match="different ranks below 4"):
        log.answer(session, 0, GivenAnswer(None, clicks, (3,), 1.0))


def test_nothing_is_answered_twice_or_before_it_is_shown(log, judge):
    session = log.add_session()
    with pytest.raises(AlreadyAnsweredError):
        log.answer(session, 0, GivenAnswer("left", (), (3, 3), 1.0))
    judge(log, session, 7, 1)
    with pytest.raises(AlreadyAnsweredError, match="Query 1 is not waiting"):
        log.answer(session, 0, GivenAnswer("right", (), (3, 3), 1.0))
    assert [one.preferred for one in log.judgements()] == [1]


def test_deleted_session_leaves_nothing(log, judge):
    stays, goes = log.add_session(), log.add_session()
    for session, query in ((stays, 7), (goes, 123_456_789)):
        judge(log, session, query, 1)
    there = b"".join(path.read_bytes() for path in log.path.parent.iterdir())
    marker = (123_456_789).to_bytes(4, "big")
    assert marker in there
    assert log.delete(goes) == 1
    left = b"".join(path.read_bytes() for path in log.path.parent.iterdir() if not path.name.endswith("-shm"))
    assert marker not in left
    assert goes.to_bytes(6, "big").lstrip(b"\0") not in left
    assert [one.session for one in log.judgements()] == [stays]
    for act in (log.count_answers, log.delete):
        with pytest.raises(UnknownSessionError):
            act(goes)


def test_no_personal_data_and_no_date_are_kept(log):
    connection = sqlite3.connect(log.path)
    columns = {
        f"{table}.{row[1]}"
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for row in connection.execute(f"PRAGMA table_info({table})")
        if table not in ("study", "run")
    }
    connection.close()
    assert columns == {
        *("session.number", "trial.session", "trial.place", "trial.query", "trial.mode"),
        *("shown.session", "shown.place", "shown.side", "shown.rank", "shown.item", "shown.run"),
        *("answer.session", "answer.place", "answer.choice", "answer.seconds"),
        *("rating.session", "rating.place", "rating.side", "rating.value"),
        *("click.session", "click.place", "click.rank"),
    }


def test_same_study_goes_on_and_another_is_refused(log, study, judge):
    judge(log, log.add_session(), 7, 1)
    with StudyLog.create(log.path, study) as again:
        assert len(again.judgements()) == 1
        assert again.study() == study
    others = {
        "depth": replace(study, design=replace(study.design, depth=5)),
        "first run, another second run": replace(study, runs=study.runs[::-1]),
        "consent": replace(study, consent="another"),
    }
    for name, other in others.items():
        with pytest.raises(InvalidInputError, match=f"itq and lsh with another {name}; use"):
            StudyLog.create(log.path, other)


def test_killed_writer_loses_no_answer(tmp_path, study):
    """A process that is killed in the middle of a transaction leaves every answer that was told to be kept."""
    path = tmp_path / "study.sqlite"
    code = f"""
import itertools, pathlib, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from conftest import sided
from deephash.web.study.design import StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.records import GivenAnswer, StudiedRun, Study
study = Study(StudyDesign(), (StudiedRun("itq", "itq · sbq, 32 bits", "a" * 64),
    StudiedRun("lsh", "lsh · sbq, 32 bits", "b" * 64)), "split", "What is kept: nothing of yours.")
log = StudyLog.create(pathlib.Path({str(path)!r}), study)
session = log.add_session()
for place in itertools.count():
    log.show(session, sided(place, place, 0))
    log.answer(session, place, GivenAnswer("left", (), (3, 4), 1.0))
    print(place, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    told = [int(process.stdout.readline()) for _ in range(15)][-1]
    process.send_signal(signal.SIGKILL)
    told = max([told, *map(int, process.communicate()[0].split())])
    with StudyLog.create(path, study) as log:
        places = [one.query for one in log.judgements()]
        assert places == list(range(len(places)))
        assert len(places) in (told + 1, told + 2)
        assert all(one.ratings == (3, 4) for one in log.judgements())


def test_file_without_tables_is_a_new_log(tmp_path, study):
    (tmp_path / "empty").touch()
    with StudyLog.create(tmp_path / "empty", study) as log:
        assert log.count_sessions() == 0
    opened = sqlite3.connect(tmp_path / "killed")  # killed after the first pages, before the first transaction
    opened.execute("PRAGMA journal_mode = WAL").fetchall()
    opened.close()
    with StudyLog.create(tmp_path / "killed", study) as log:
        assert log.study() == study


def foreign(path, statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("opened", ["create", "read"])
@pytest.mark.parametrize("kind", ["text", "foreign", "version", "trigger", "values", "torn", "folder", "missing"])
def test_other_files_are_one_clear_error(tmp_path, study, judge, kind, opened):
    path = tmp_path / "study.sqlite"
    if kind == "text":
        path.write_text("no database\n" * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "foreign":
        foreign(path, ["CREATE TABLE bills (price REAL)", "INSERT INTO bills VALUES (3)"])
    elif kind != "missing":
        with StudyLog.create(path, study) as log:
            for query in range(8):
                judge(log, log.add_session(), query, 1)
        if kind == "version":
            foreign(path, ["PRAGMA user_version = 9"])
        elif kind == "trigger":
            foreign(path, ["CREATE TRIGGER more AFTER INSERT ON answer BEGIN DELETE FROM rating; END"])
        elif kind == "values":
            foreign(path, ["PRAGMA ignore_check_constraints = ON", "UPDATE rating SET value = 77"])
        elif kind == "torn":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = path.read_bytes() if path.is_file() else None
    if kind == "missing" and opened == "create":
        path = tmp_path / "no" / "folder" / "study.sqlite"
    with pytest.raises(InvalidInputError) as caught:
        StudyLog.create(path, study) if opened == "create" else StudyLog.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("UPDATE answer SET seconds = 9e999 WHERE place = 1", "the seconds are not from 0 to 86,400"),
        ("UPDATE answer SET seconds = -9e999 WHERE place = 1", "the seconds are not from 0"),
        ("UPDATE answer SET seconds = -1 WHERE place = 1", "the seconds are not from 0"),
        ("UPDATE answer SET choice = NULL WHERE place = 0", "the preference is missing or superfluous"),
        ("UPDATE answer SET choice = 'left' WHERE place = 1", "the preference is missing or superfluous"),
        ("DELETE FROM rating WHERE place = 1", "there is not one rating of each list"),
        ("DELETE FROM rating WHERE place = 0 AND side = 1", "there is not one rating of each list"),
        ("UPDATE rating SET side = 5 WHERE place = 1", "there is not one rating of each list"),
        ("INSERT INTO rating SELECT number, 1, 1, 3 FROM session", "there is not one rating of each list"),
        ("UPDATE click SET rank = 9 WHERE rank = 2", "an item is marked that was not shown"),
        ("UPDATE click SET rank = -1 WHERE rank = 2", "an item is marked that was not shown"),
        ("INSERT INTO click SELECT number, 0, 0 FROM session", "an item is marked that was not shown"),
        ("DELETE FROM shown WHERE place = 1", "the lists shown are not one"),
        ("DELETE FROM shown WHERE place = 0 AND side = 1", "the lists shown are not one"),
        ("UPDATE shown SET run = 0 WHERE place = 0", "the lists shown are not one"),
        ("UPDATE shown SET run = 1 - run WHERE place = 0 AND rank = 1", "a list has gaps"),
        ("UPDATE shown SET item = -3 WHERE place = 1 AND rank = 1", "a list has gaps"),
        ("UPDATE shown SET rank = 7 WHERE place = 1 AND rank = 1", "a list has gaps"),
        ("UPDATE shown SET item = 0 WHERE place = 1 AND rank = 1", "a list has gaps"),
        ("UPDATE trial SET query = -1 WHERE place = 1", "the query is not a row of the data"),
        ("DELETE FROM answer WHERE place = 0", "an earlier answer is missing"),
        ("UPDATE study SET mode = 'interleaved'", "the study does not show lists of this form"),
        ("UPDATE study SET mode = 'other'", "is damaged"),
    ],
)
def test_answers_that_cannot_be_are_refused(log, trials, statement, wrong):
    sided, mixed = trials
    session = log.add_session()
    for trial, answer in (
        (sided(0, 7, left=0), GivenAnswer("left", (), (5, 2), 0.0)),
        (mixed(1, 8, [0, 1, 1]), GivenAnswer(None, (0, 2), (4,), 86_400.0)),
    ):
        log.show(session, trial)
        log.answer(session, trial.place, answer)
    assert len(log.judgements()) == 2
    foreign(log.path, ["PRAGMA foreign_keys = ON", statement])
    with pytest.raises(InvalidInputError, match=wrong) as told:
        (log.study(), log.judgements())
    assert str(log.path) in str(told.value)


def test_a_session_with_a_number_that_is_never_given_is_refused(log):
    foreign(log.path, ["INSERT INTO session VALUES (7)"])
    with pytest.raises(InvalidInputError, match="session 0000 0000 0007, where the session number is out of range"):
        log.judgements()


def test_damage_is_told_or_does_no_harm(tmp_path, study, trials, judge):
    """Bytes turned and files cut at random: one clear error, or answers of the form that answers have."""
    path = tmp_path / "study.sqlite"
    with StudyLog.create(path, study) as log:
        for query in range(6):
            session = log.add_session()
            judge(log, session, query, 1)
            log.show(session, trials[1](1, query, [0, 1, 1]))
            log.answer(session, 1, GivenAnswer(None, (0, 2), (3,), 1.0))
    whole, draw, told = path.read_bytes(), random.Random(0), []
    for number in range(150):
        damaged = bytearray(whole)
        for _ in range(draw.choice((1, 5, 50))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path = tmp_path / f"{number}.sqlite"
        path.write_bytes(damaged if number % 5 else damaged[: draw.randrange(len(damaged))])
        try:
            with StudyLog.read(path) as log:
                log.study()
                for one in log.judgements():
                    assert one.preferred in (-1, 0, 1)
                    assert set(one.ratings or (one.rating,)) <= {1, 2, 3, 4, 5}
        except InvalidInputError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all(str(tmp_path) in sentence and "\n" not in sentence for sentence in told)


def test_many_answer_at_once(log, study, judge):
    """Threads of two servers on one log: no answer is lost, and none is there twice."""

    def take_part(number):
        opened = log if number % 2 else other
        session = opened.add_session()
        for query in range(5):
            judge(opened, session, query, 1)
        return session

    with StudyLog.create(log.path, study) as other, ThreadPoolExecutor(6) as pool:
        sessions = list(pool.map(take_part, range(6)))
    found = [(one.session, one.query) for one in log.judgements()]
    assert found == [(session, query) for session in sorted(sessions) for query in range(5)]


def test_full_disk_is_told_and_the_log_stays_whole(log, judge):
    session = log.add_session()
    judge(log, session, 0, 1)
    (pages,) = log._file.connection.execute("PRAGMA page_count").fetchone()
    log._file.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def go_on():
        for query in range(1, 1000):
            judge(log, session, query, 1)

    with pytest.raises(StorageError, match=r"full.*earlier answers are kept"):
        go_on()
    kept = log.count_answers(session)
    assert [one.query for one in log.judgements()] == list(range(kept))
    log._file.connection.execute("PRAGMA max_page_count = 100000").fetchall()
    judge(log, session, kept, -1)


def test_numbers_are_read_as_they_are_noted():
    assert format_session(123456789012) == "1234 5678 9012"
    assert format_session(7) == "0000 0000 0007"
    for text in ("123456789012", "1234 5678 9012", " 1234-5678-9012\n"):
        assert parse_session(text) == 123456789012
    for text in (
        "",
        "12345678901",
        "1234567890123",
        "12345678901x",
        "0000 0000 0000",
        "-12345678901",
        "１２３４５６７８９０１２",
        "9" * 5000,
    ):
        with pytest.raises(InvalidInputError, match="12 digits"):
            parse_session(text)


def test_the_consent_text_of_studies_in_progress_is_unchanged():
    digest = hashlib.sha256(repr(get_consent("")).encode()).hexdigest()
    assert digest == "21072eb0c102eb12fc46a27139c34f47fe3f9c3d4f986bd9709ca57eafe56b17"
