"""A served index that changes: additions, updates, removals and filters over HTTP, and changes of other processes."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

import deephash
from deephash.cluster.index_service import AT_ONCE, ChangingRelease, refresh_index
from deephash.cluster.search_application import SearchApplication
from deephash.indexes.sharded_index import IndexRelease, IndexShard, OpenRelease, open_release, read_current_release
from deephash.validation import InvalidInputError

CODES = np.random.default_rng(0).integers(0, 256, (60, 8), dtype=np.uint8)
NAMES = [f"n{row}" for row in range(60)]


def encoded(codes):
    return [base64.b64encode(bytes(code.tolist())).decode() for code in codes]


@pytest.fixture(params=["flat", "mih"])
def folder(request, tmp_path):
    columns = {"price": list(range(50))}
    deephash.index(CODES[:50], request.param, names=NAMES[:50], columns=columns).save(tmp_path / "index")
    return tmp_path / "index"


def ask(application, *requests, headers=None, together=False):
    """Replies to requests (path, content), one after another or at the same time."""

    async def run():
        httpx = pytest.importorskip("httpx")
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            sent = [client.post(path, content=json.dumps(content)) for path, content in requests]
            if together:
                return await asyncio.gather(*sent)
            return [await one for one in sent]

    return asyncio.run(run())


def serve(folder, token=None):
    served = ChangingRelease(folder)

    async def refresh(before):
        return served if before is None else await refresh_index(folder, before)

    return SearchApplication(refresh, AT_ONCE, token=token), served


def test_changes_are_answered_searched_and_on_the_disk(folder):
    application, served = serve(folder)
    search = ("/search", {"codes": encoded(CODES[55:56]), "k": 1})
    replies = ask(
        application,
        search,
        ("/add", {"codes": encoded(CODES[50:]), "names": NAMES[50:], "columns": {"price": list(range(50, 60))}}),
        search,
        ("/remove", {"names": ["n55", "n1"]}),
        search,
        ("/update", {"codes": encoded(CODES[55:56]), "names": ["n2"], "columns": {"price": [7]}}),
        search,
    )
    assert [reply.status_code for reply in replies] == [200] * 7
    first, added, after, removed, without, updated, again = (reply.json() for reply in replies)
    assert added == {"ids": NAMES[50:], "size": 60, "release": added["release"]}
    assert (removed["removed"], removed["size"], updated["ids"]) == (2, 58, ["n2"])
    assert (after["ids"], after["distances"]) == ([["n55"]], [[0]])
    assert first["ids"] == without["ids"] != [["n55"]]
    assert (again["ids"], again["distances"]) == ([["n2"]], [[0]])
    assert len({first["release"], added["release"], removed["release"], updated["release"]}) == 4
    assert again["release"] == updated["release"]
    with pytest.raises(InvalidInputError, match="is being written by another process"):
        deephash.open_index(folder)
    assert set(deephash.load_index(folder).names.tolist()) == {*NAMES} - {"n55", "n1"}
    served.close()
    deephash.open_index(folder).close()


def test_filters_are_names_and_conditions(folder):
    application, served = serve(folder)
    asked = {"codes": encoded(CODES[:2]), "k": 4}
    filters = ["price < 3", ["n7", "n9"], [], "name = 'n5'", "price > 99"]
    replies = ask(application, *(("/search", {**asked, "where": where}) for where in filters))
    found = [[set(row) - {""} for row in reply.json()["ids"]] for reply in replies]
    assert found == [[{"n0", "n1", "n2"}] * 2, [{"n7", "n9"}] * 2, [set()] * 2, [{"n5"}] * 2, [set()] * 2]
    assert replies[0].json()["distances"][0][0] == 0
    assert replies[0].json()["distances"][0][3] == 65
    served.close()


def test_a_filter_of_many_names_is_answered(tmp_path):
    codes = np.random.default_rng(1).integers(0, 256, (9_000, 8), dtype=np.uint8)
    names = [f"item {row}" for row in range(len(codes))]
    deephash.index(codes, "flat", names=names).save(tmp_path)
    application, served = serve(tmp_path)
    (reply,) = ask(application, ("/search", {"codes": encoded(codes[:1]), "k": 9_000, "where": names[500:]}))
    assert (reply.status_code, set(reply.json()["ids"][0])) == (200, {*names[500:], ""})
    served.close()


def test_what_does_not_fit_is_refused_and_changes_nothing(folder):
    application, served = serve(folder)
    code = encoded(CODES[:1])
    cases = [
        (("/add", []), "expected"),
        (("/add", {"codes": code, "names": ["n0"], "columns": {"price": [1]}}), "contains 'n0' already"),
        (("/add", {"codes": code, "names": ["x"]}), "give columns="),
        (("/add", {"codes": code, "names": ["x"], "columns": 5}), "columns are a int"),
        (("/add", {"codes": ["?"], "names": ["x"]}), "not base64"),
        (("/add", {"codes": [], "names": []}), "expected a list of 1 to 10,000 codes"),
        (("/add", {"codes": code, "names": [["x"]], "columns": {"price": [1]}}), "names are"),
        (("/add", {"codes": code, "names": "x"}), "names are not a list"),
        (("/update", {"codes": code}), "names are missing"),
        (("/update", {"codes": code, "names": ["zz"], "columns": {"price": [1]}}), "does not contain"),
        (("/remove", {}), "names are missing"),
        (("/remove", {"names": [3]}), "names of the index are words"),
        (("/remove", {"names": [True]}), "names are"),
        (("/search", {"codes": code, "where": 5}), "where is neither a condition"),
        (("/search", {"codes": code, "where": "price <"}), "is not a condition"),
        (("/search", {"codes": code, "where": "cost < 3"}), "is not a condition"),
        (("/search", {"codes": code, "where": "x" * 20_000}), "has 20000 characters"),
        (("/search", {"codes": code, "where": [True]}), "where is neither"),
        (("/search", {"codes": code, "where": NAMES * 167}), "where has 10020 names; expected at most 10000"),
    ]
    replies = ask(application, *(request for request, _ in cases))
    for reply, (request, message) in zip(replies, cases, strict=True):
        assert reply.status_code == 400, (request, reply.text)
        assert message in reply.json()["error"], reply.text
    assert served.index.size == 50
    served.close()


def test_a_token_is_asked_of_every_request(folder):
    application, served = serve(folder, token="secret")
    requests = [("/search", {"codes": encoded(CODES[:1])}), ("/remove", {"names": ["n0"]})]
    for headers in (None, {"Authorization": "Bearer other"}, {"Authorization": "secret"}):
        assert [reply.status_code for reply in ask(application, *requests, headers=headers)] == [401, 401]
    assert served.index.size == 50
    right = {"Authorization": "Bearer secret"}
    assert [reply.status_code for reply in ask(application, *requests, headers=right)] == [200, 200]
    served.close()


def test_searches_and_changes_at_the_same_time(folder):
    application, served = serve(folder)
    adds = [
        ("/add", {"codes": encoded(CODES[row : row + 1]), "names": [NAMES[row]], "columns": {"price": [0]}})
        for row in range(50, 60)
    ]
    searches = [("/search", {"codes": encoded(CODES[:3]), "k": 5})] * 40
    searches += [("/search", {"codes": encoded(CODES[:3]), "k": 5, "where": NAMES[:20]})] * 20
    replies = ask(application, *adds, *searches, together=True)
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json()["distances"][0][0] == 0 for reply in replies[10:])
    assert served.index.size == 60
    served.close()


def test_changes_of_another_process_are_followed(folder):
    async def refresh(served):
        return await refresh_index(folder, served)

    application = SearchApplication(refresh, AT_ONCE)
    search = ("/search", {"codes": encoded(CODES[55:56]), "k": 1})
    refused = ask(application, search, ("/remove", {"names": ["n0"]}))[1]
    assert (refused.status_code, "start it with --changes" in refused.json()["error"]) == (400, True)
    with deephash.open_index(folder) as index:
        index.add(CODES[55:56], names=["n55"], columns={"price": [1]})
        opened = asyncio.run(application.look())
        assert ask(application, search)[0].json()["ids"] == [["n55"]]
        index.remove(["n55"])
        index.add(CODES[56:57], names=["n56"], columns={"price": [1]})
        assert asyncio.run(application.look()) is opened, "the log is followed, and the index is not loaded again"
        found = ask(application, search, ("/search", {"codes": encoded(CODES[56:57]), "k": 1}))
        assert found[0].json()["ids"] != [["n55"]]
        assert found[1].json()["ids"] == [["n56"]]
        index.compact()
        assert asyncio.run(application.look()) is not opened
        assert ask(application, ("/search", {"codes": encoded(CODES[56:57]), "k": 1}))[0].json()["ids"] == [["n56"]]


@pytest.mark.needs("fastapi", "uvicorn")
@pytest.mark.skipif(os.name != "posix", reason="interrupted as on POSIX systems")
def test_the_program_serves_changes_until_it_is_interrupted(folder):
    command = [sys.executable, "-m", "deephash.command_line.main", "serve", str(folder), "--changes", "--port", "0"]
    environment = {**os.environ, "DEEPHASH_TOKEN": "secret"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as service:
        try:
            url = service.stdout.readline().split()[0]
            body = json.dumps({"names": ["n0"]}).encode()
            request = urllib.request.Request(f"{url}/remove", body, {"Authorization": "Bearer secret"})
            with urllib.request.urlopen(request) as reply:
                assert json.load(reply)["size"] == 49
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(urllib.request.Request(f"{url}/remove", body))
        finally:
            service.send_signal(signal.SIGINT)
        assert service.wait(30) == 0
    with deephash.open_index(folder) as index:
        assert index.names.tolist() == NAMES[1:50]


def test_what_cannot_be_served_is_refused(folder, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from deephash.command_line.main import app

    monkeypatch.delenv("DEEPHASH_TOKEN", raising=False)
    with pytest.raises(InvalidInputError, match=r"--changes on 0\.0\.0\.0 lets everyone change the index; set DEEPH"):
        CliRunner().invoke(app, ["serve", str(folder), "--changes", "--host", "0.0.0.0"], catch_exceptions=False)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shards.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="is in shards, whose service takes no changes and no token"):
        CliRunner().invoke(app, ["serve", str(tmp_path / "shards"), "--changes"], catch_exceptions=False)


def test_a_shard_that_was_changed_by_itself_is_refused(tmp_path):
    folders = []
    for part in range(2):
        folders.append(IndexShard(str(tmp_path / f"{part}"), 30 * part, 30))
        deephash.index(CODES[30 * part : 30 * part + 30], "flat").save(folders[-1].folder)
    release = IndexRelease("release-0", 64, None, tuple(folders))
    assert OpenRelease(release).size == 60
    with deephash.open_index(folders[1].folder) as index:
        index.add(CODES[:1])
    with pytest.raises(InvalidInputError, match="was changed apart from the other shards"):
        OpenRelease(release)


def test_no_condition_reads_a_file_or_makes_long_texts(folder, tmp_path):
    (tmp_path / "secret.csv").write_text("secret\nn1\n")
    application, served = serve(folder)
    asked = {"codes": encoded(CODES[:1]), "k": 4}
    hostile = [
        f"name IN (SELECT secret FROM read_csv('{tmp_path}/secret.csv'))",
        f"name IN (SELECT name FROM read_csv('{tmp_path}/secret.csv'))",
        f"name IN (select name from read_csv('{tmp_path}/absent.csv'))",
        "LPAD(name, 100000000000, 'x') = 'a'",
        "REPLACE(name, 'n', 'nnnn') = 'a'",
        "name" + " + name" * 17 + " = 'a'",
    ]
    for reply, text in zip(
        ask(application, *(("/search", {**asked, "where": w}) for w in hostile)), hostile, strict=True
    ):
        assert reply.status_code == 400, text
        assert "it contains" in reply.json()["error"] or "where has 17 additions" in reply.json()["error"]
        assert "valid columns" not in reply.text
    served.close()


def test_a_search_after_all_items_were_removed_is_told(folder):
    application, served = serve(folder)
    removed, search = ask(
        application, ("/remove", {"names": NAMES[:50]}), ("/search", {"codes": encoded(CODES[:1]), "k": 1})
    )
    assert (removed.json()["size"], search.status_code) == (0, 400)
    assert search.json()["error"] == "the index has no items; add some first."
    served.close()


def test_whole_records_before_a_damaged_one_are_followed_once(tmp_path):
    deephash.index(CODES[:5], "flat").save(tmp_path)
    deephash.open_index(tmp_path).close()
    opened = open_release(tmp_path)
    with deephash.open_index(tmp_path) as index:
        index.add(CODES[5:7])
        index.add(CODES[7:8])
    (path,) = tmp_path.glob("*/changes.log")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(3):
        with pytest.raises(InvalidInputError, match="is damaged"):
            opened.follow(read_current_release(tmp_path))
        assert opened.size == 7
    path.write_bytes(whole)
    assert opened.follow(read_current_release(tmp_path))
    assert opened.shards[0].index.codes.numpy().tolist() == CODES[:8].tolist()


@pytest.mark.parametrize("token", ["", " ", "a b", "schlüssel", "a\n"])
def test_a_token_that_no_request_can_contain_is_refused(folder, monkeypatch, token):
    from deephash.command_line.serve import TOKEN, serve

    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(InvalidInputError, match=f"{TOKEN} is empty or has white space"):
        serve(folder, changes=True)
