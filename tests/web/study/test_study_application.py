"""The server of a study: a blind page, limits, requests from its own page alone, and stored answers."""

import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import deephash
from deephash.validation import InvalidInputError
from deephash.web.demo.served_run import load_runs
from deephash.web.study.consent import get_consent
from deephash.web.study.design import StudyDesign
from deephash.web.study.log import StudyLog
from deephash.web.study.presentation import Presentation
from deephash.web.study.records import Trial

pytest.importorskip("fastapi", reason="needs pip install 'deephash[demo]'")

from fastapi.testclient import TestClient

from deephash.web.study.study_application import MAX_ANSWER_BYTES, build_study_application

ADDRESS = "http://127.0.0.1:8000"
PAGE = Path(deephash.__file__).parent / "web" / "study" / "page"
DEMO_PAGE = Path(deephash.__file__).parent / "web" / "demo" / "page"


@pytest.fixture(scope="module")
def runs(itq_run, lsh_run):
    return load_runs([itq_run, lsh_run])


@pytest.fixture
def start(tmp_path):
    """A function from runs and settings of the design to a client and its log."""
    logs = []

    def started(runs, **settings):
        presentation = Presentation(runs, StudyDesign(**settings))
        consent = get_consent("Ada, room 12")
        logs.append(StudyLog.create(tmp_path / "study.sqlite", presentation.study("text")))
        application = build_study_application(presentation, logs[-1], consent)
        return TestClient(application, base_url=ADDRESS, headers={"origin": ADDRESS}), logs[-1]

    yield started
    for log in logs:
        log.close()


def begin(client):
    answer = client.post("/api/sessions", json={"agreed": True})
    assert answer.status_code == 200
    assert re.fullmatch(r"\d{4} \d{4} \d{4}", answer.json()["session"])
    return answer.json()["session"].replace(" ", "")


def following(client, session):
    return client.post(f"/api/sessions/{session}/next").json()


def keep(client, session, **content):
    return client.post(f"/api/sessions/{session}/answers", json=content)


def rows(faces):
    return [int(re.fullmatch(r"/api/items/(\d+)\.png", face["picture"])[1]) for face in faces]


def shown(log, session, place):
    """The lists of a trial that was shown before, with whose each item is."""
    return log.show(int(session), Trial(place, -1, "interleaved", ())).lists


def distances(run, query, items):
    """Hamming distances worked out by NumPy."""
    (asked,) = run.bits(np.array([query]))
    return [int(one) for one in (run.bits(np.array(items)) != asked).sum(1)]


def test_consent_is_told_and_asked_for(start, runs):
    client, log = start(runs, queries=5)
    told = client.get("/api/study").json()
    assert told["queries"] == 5
    text = json.dumps(told["consent"])
    for part in ("What is kept", "Why", "No personal data", "Stop at any time", "deleted", "Ada, room 12"):
        assert part in text
    for content in ({"agreed": False}, {}, {"agreed": "yes"}, {"agreed": True, "name": "Ada"}):
        assert client.post("/api/sessions", json=content).status_code == 400
    assert log.count_sessions() == 0


def test_lists_are_the_nearest_of_either_run(start, runs, itq, lsh):
    client, log = start(runs, mode="side_by_side", depth=8, queries=6)
    session = begin(client)
    lefts = []
    for place in range(6):
        trial = following(client, session)
        assert (trial["place"], trial["of"], len(trial["lists"])) == (place, 6, 2)
        (query,) = rows([trial["query"]])
        assert query in itq.queries
        left = shown(log, session, place)[0][0].run
        lefts.append(left)
        for run, faces in zip((itq, lsh) if left == 0 else (lsh, itq), trial["lists"], strict=True):
            nearest = run.nearest(run.bits(np.array([query]))[0], 8)[1]
            assert distances(run, query, rows(faces)) == nearest
        assert keep(client, session, place=place, choice="left", ratings=[4, 2], seconds=1.5).json() == {"kept": True}
    assert following(client, session) == {"done": True, "of": 6}
    assert [one.preferred for one in log.judgements()] == [1 if left == 0 else -1 for left in lefts]


def test_interleaved_list_drafts_from_both(start, runs, itq, lsh):
    client, log = start(runs, mode="interleaved", depth=10, queries=4)
    session = begin(client)
    expected = []
    for place in range(4):
        trial = following(client, session)
        (items,) = (rows(faces) for faces in trial["lists"])
        assert len(set(items)) == 10
        (stored,) = shown(log, session, place)
        teams = [one.run for one in stored]
        assert [one.item for one in stored] == items
        # Each pair of turns has one of either run.
        assert all({teams[turn], teams[turn + 1]} == {0, 1} for turn in range(0, 10, 2))
        (query,) = rows([trial["query"]])
        for number, run in enumerate((itq, lsh)):
            own = [item for item, team in zip(items, teams, strict=True) if team == number]
            farthest = run.nearest(run.bits(np.array([query]))[0], 10)[1][-1]
            assert max(distances(run, query, own)) <= farthest
        clicks = [rank for rank, team in enumerate(teams) if team == place % 2][:3]
        expected.append(1 if place % 2 == 0 else -1)
        assert keep(client, session, place=place, clicks=clicks, ratings=[3], seconds=2).status_code == 200
    assert [one.preferred for one in log.judgements()] == expected


def test_page_never_says_which_run_is_which(start, runs):
    client, _ = start(runs, queries=20)
    session = begin(client)
    told = [client.get(path).text for path in ("/", "/api/study", "/study/study.js", "/study/study.css")]
    modes = []
    for place in range(20):
        trial = following(client, session)
        modes.append(trial["mode"])
        assert set(trial) == {"done", "of", "place", "mode", "query", "lists"}
        assert all(set(face) == {"picture", "words", "name"} for faces in trial["lists"] for face in faces)
        told.append(json.dumps(trial))
        ratings = [3] * len(trial["lists"])
        choice = "none" if trial["mode"] == "side_by_side" else None
        answer = keep(client, session, place=place, choice=choice, ratings=ratings, seconds=1)
        told.append(answer.text)
    assert sorted(modes) == ["interleaved"] * 10 + ["side_by_side"] * 10
    for word in ("itq", "lsh", "team", "distance", "relevant", *(run.hasher.identity for run in runs)):
        assert not [text for text in told if word in text.lower()], word


def test_session_goes_on_after_the_server_was_killed(start, runs):
    client, _ = start(runs)
    session = begin(client)
    first = following(client, session)
    client, log = start(runs)  # opened beside the one that was not closed
    assert following(client, session) == first
    choice = "none" if first["mode"] == "side_by_side" else None
    keep(client, session, place=0, choice=choice, ratings=[3] * len(first["lists"]), seconds=1)
    assert following(client, session)["place"] == 1
    assert len(log.judgements()) == 1


def test_participant_deletes_the_session(start, runs):
    client, log = start(runs, mode="interleaved")
    session, other = begin(client), begin(client)
    for one in (session, other):
        following(client, one)
        keep(client, one, place=0, ratings=[3], seconds=1)
    assert client.post(f"/api/sessions/{session}/delete").json() == {"deleted": 1}
    assert [one.session for one in log.judgements()] == [int(other)]
    for path in ("next", "delete"):
        answer = client.post(f"/api/sessions/{session}/{path}")
        assert answer.status_code == 404
        assert "is not in the study" in answer.json()["detail"]


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:9", "https://127.0.0.1"])
def test_only_the_page_itself_changes_the_log(start, runs, origin):
    client, log = start(runs)
    session = begin(client)
    headers = {} if origin is None else {"origin": origin}
    client.headers.pop("origin")
    for path in ("", f"/{session}/next", f"/{session}/answers", f"/{session}/delete"):
        answer = client.post(f"/api/sessions{path}", json={"agreed": True}, headers=headers)
        assert answer.status_code == 403, path
    assert log.count_sessions() == 1


def test_other_names_are_refused_and_headers_bind_the_page(start, runs):
    client, _ = start(runs)
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"no json", 400),
        (b"[" * 3000, 400),
        (b"[]", 400),
        (b'{"place": 0, "ratings": [3], "seconds": 1, "run": 0}', 400),
        (b'{"place": 0, "ratings": ["3"], "seconds": 1}', 400),
        (b'{"place": 0, "ratings": [3], "seconds": -1}', 400),
        (b'{"place": 0, "ratings": [3], "seconds": NaN}', 400),
        (b'{"place": 0, "ratings": [3], "seconds": 1e9}', 400),
        (b'{"place": 1, "ratings": [3], "seconds": 1}', 409),
        (b'{"place": 99999999999999999999, "ratings": [3], "seconds": 1}', 400),
        (b'{"place": 0, "ratings": [3], "seconds": 1, "clicks": [10]}', 400),
        (b'{"place": 0, "ratings": [3], "seconds": 1, "choice": "\'); DROP TABLE answer; --"}', 400),
        (b" " * (MAX_ANSWER_BYTES + 1), 413),
    ],
)
def test_what_is_no_answer_is_refused(start, runs, content, status):
    client, log = start(runs, mode="interleaved")
    session = begin(client)
    following(client, session)
    answer = client.post(f"/api/sessions/{session}/answers", content=content)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert log.judgements() == []
    assert keep(client, session, place=0, ratings=[3], clicks=[9], seconds=1).status_code == 200


@pytest.mark.parametrize("session", ["1", "abc", "1' OR '1'='1", "000000000000", "9" * 400])
def test_what_is_no_session_is_refused(start, runs, session):
    client, _ = start(runs)
    assert client.post(f"/api/sessions/{session}/next").status_code == 400


def test_log_that_cannot_be_written_is_told_without_its_path(start, runs, tmp_path):
    client, log = start(runs, mode="interleaved")
    session = begin(client)
    following(client, session)
    log._file.pragma("query_only = ON")
    answer = keep(client, session, place=0, ratings=[3], seconds=1)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The answer cannot be kept; please tell the person who runs the study."


def test_nothing_of_the_request_is_kept(start, runs):
    client, log = start(runs)
    client.headers["user-agent"] = "A browser of some kind"
    session = begin(client)
    following(client, session)
    connection = sqlite3.connect(log.path)
    text = "\n".join(connection.iterdump())
    connection.close()
    for kept in ("browser", "127.0.0.1", "testclient"):
        assert kept not in text
    assert "itq · sbq, 32 bits" in text


def test_same_number_and_seed_give_the_same_queries(runs):
    one, same, other = (Presentation(runs, StudyDesign(seed=seed, pool=30)) for seed in (1, 1, 2))
    assert one.trials(5) == same.trials(5)
    assert one.trials(5) != one.trials(6)
    assert len(set(one.pool.tolist())) == 30
    assert set(one.pool.tolist()) != set(other.pool.tolist())
    assert 0.4 < np.mean([trial.left for number in range(20) for trial in one.trials(number)]) < 0.6
    assert {trial.query for number in range(20) for trial in one.trials(number)} == set(one.pool.tolist())


def test_texts_are_found_by_pictures(start, sentences_run):
    runs = load_runs([sentences_run, sentences_run])
    with pytest.raises(InvalidInputError, match="direction='';"):
        Presentation(runs, StudyDesign())
    client, _ = start(runs, direction="image_to_text", queries=2, depth=4, mode="side_by_side")
    trial = following(client, begin(client))
    assert trial["query"]["picture"]
    assert trial["query"]["words"] == ""
    for face in trial["lists"][0]:
        assert face["picture"] is None
        assert face["words"].startswith("A small photograph of")
    # One run against itself: ties stand in one order, so that nothing differs.
    assert trial["lists"][0] == trial["lists"][1]


def test_runs_that_differ_in_more_than_the_hasher_cannot_be_compared(runs, sentences_run):
    one, other = runs
    with pytest.raises(InvalidInputError, match="differ in data"):
        Presentation([one, *load_runs([sentences_run])], StudyDesign())
    with pytest.raises(InvalidInputError, match="differ in queries"):
        Presentation([one, replace(other, query_rows=other.query_rows[1:])], StudyDesign())
    with pytest.raises(InvalidInputError, match="runs=1; expected two"):
        Presentation([one], StudyDesign())
    with pytest.raises(InvalidInputError, match="one view: leave --direction out"):
        Presentation(runs, StudyDesign(direction="image_to_text"))


@pytest.mark.parametrize("path", sorted(PAGE.iterdir()), ids=lambda path: path.name)
def test_file_is_the_pages_own(path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"https?://|(?<=[\"'(])//[^\s\"']+", text)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", text)


def test_every_name_that_the_script_looks_up_is_on_the_page():
    page, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "study.js"))
    there = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'byId\("([^"]+)"\)', script)) <= there
    for folder, name in re.findall(r"\"/(page|study)/([^\"]+)\"", page + script):
        assert ((DEMO_PAGE if folder == "page" else PAGE) / name).is_file()
