"""Search over HTTP: requests, replies, their release, and missing shards."""

import asyncio
import base64
import json
import tracemalloc

import numpy as np
import pytest

from deephash.cluster.index_service import AT_ONCE, refresh_index
from deephash.cluster.search_application import (
    MAX_QUERIES,
    Answer,
    SearchApplication,
    ServedRelease,
    build_reply,
    combine_answers,
    read_json_body,
    read_request,
    request_bytes,
    write_reply,
)
from deephash.code_files.code_file import read_codes
from deephash.code_files.index_codes import read_hasher_info, save_index
from deephash.indexes.build_index import index
from deephash.indexes.sharded_index import IndexRelease, IndexShard, ShardAnswer
from deephash.ranking.nearest_merge import merge_nearest
from deephash.validation import InvalidInputError

RELEASE = IndexRelease("release-0", 16, "h", (IndexShard("a", 0, 2), IndexShard("b", 2, 3)))
FOUND = ShardAnswer(np.array([[1, 2]]), np.array([[1, 0]]), np.array([[11, 10]]))


def encoded(codes):
    return [base64.b64encode(bytes(code.tolist())).decode() for code in codes]


def test_a_silent_shard_is_never_passed_over():
    answer = combine_answers(RELEASE, [FOUND, "lost"], 3)
    reply, status = build_reply(answer, partial=False)
    assert (status, reply["partial"], "ids" in reply) == (503, True, False)
    reply, status = build_reply(answer, partial=True)
    assert (status, reply["ids"]) == (200, [[11, 10]])
    assert reply["missing"] == [{"shard": 1, "start": 2, "size": 3, "reason": "lost"}]
    assert build_reply(combine_answers(RELEASE, ["lost", "lost"], 3), partial=True)[1] == 503
    with pytest.raises(InvalidInputError, match="there are no answers"):
        merge_nearest([], [], 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "expected"),
        ({"codes": ["AAA="], "k": 6}, "k=6; expected a whole number from 1 to 5"),
        ({"codes": ["AAA="], "k": True}, "k=True"),
        ({"codes": [], "k": 1}, "0 codes; expected 1 to"),
        ({"codes": ["AA=="], "k": 1}, "does not have 2 bytes"),
        ({"codes": ["?"], "k": 1}, "not base64"),
        ({"codes": [5], "k": 1}, "not base64"),
        ({"codes": ["AAA="], "k": 1, "partial": 1}, "partial=1"),
    ],
)
def test_requests_that_cannot_be_read_are_told_why(asked, message):
    with pytest.raises(InvalidInputError, match=message):
        read_request(asked, RELEASE)


def test_a_request_for_too_much_is_refused():
    large = IndexRelease("release-0", 16, "h", (IndexShard("a", 0, 20_000),))
    with pytest.raises(InvalidInputError, match="at most 1,000,000 neighbours per request"):
        read_request({"codes": ["AAA="] * 101, "k": 10_000}, large)


@pytest.mark.parametrize("bomb", [b"[],", b"{},", b'"",', b"1,", b"[1,[", b'{"a":'])
def test_a_request_of_more_values_than_codes_is_not_parsed(bomb):
    body = b'{"codes":[' + bomb * 100_000 + b"1]}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="more than 4096 codes and 10000 names; send several requests"):
            read_json_body(body)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


def test_the_largest_request_is_read():
    codes = [base64.b64encode(bytes(600)).decode()] * MAX_QUERIES
    body = json.dumps({"codes": codes, "k": 1, "partial": False}, indent=4).encode()
    assert len(body) < request_bytes(4800)
    assert read_json_body(body)["codes"] == codes


def test_a_large_reply_is_the_same_json():
    reply = {"distances": [[1, 2]] * 6000, "ids": [["a", "ü"]] * 6000, "release": "x", "partial": False, "missing": []}
    assert asyncio.run(write_reply(reply)) == json.dumps(reply, separators=(",", ":")).encode()


class Shards(ServedRelease):
    """A release of which the test decides whether its shards answer."""

    def __init__(self, name, answers=(FOUND, FOUND), bits=16):
        super().__init__(IndexRelease(name, bits, "h", RELEASE.shards))
        self.answers = answers

    async def search(self, codes, k):
        answer = combine_answers(self.release, list(self.answers), k)
        found = answer.found and ShardAnswer(
            *(np.repeat(getattr(answer.found, part), len(codes), 0) for part in ("distances", "rows", "names"))
        )
        return Answer(answer.release, found, answer.missing)


def replies_of(application, *requests):
    """Replies to requests (method, path, content), asked at the same time."""

    async def ask():
        httpx = pytest.importorskip("httpx")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://localhost") as client:
            return await asyncio.gather(*(client.request(way, path, content=body) for way, path, body in requests))

    return asyncio.run(ask())


def searches(number=1, **more):
    return [("POST", "/search", json.dumps({"codes": ["AAA="], "k": 3, **more}))] * number


def test_shards_that_went_with_their_release_are_asked_in_the_next():
    releases = [Shards("old", answers=("gone", "gone")), Shards("new")]

    async def refresh(served):
        return releases[0] if served is None else releases[1]

    application = SearchApplication(refresh, 2)
    replies = replies_of(application, *searches(12))
    assert {reply.status_code for reply in replies} == {200}
    assert {reply.json()["release"] for reply in replies} == {"new"}
    # Codes of another length cannot be asked there.
    releases[:] = [Shards("old", answers=("gone", FOUND)), Shards("new", bits=24)]
    application = SearchApplication(refresh, 2)
    whole, part = replies_of(application, *searches(), *searches(partial=True))
    assert (whole.status_code, whole.json()["release"]) == (503, "old")
    assert (part.status_code, part.json()["release"], part.json()["partial"]) == (200, "old", True)


def test_partial_and_whole_replies_of_one_search():
    async def refresh(served):
        return served or Shards("one", answers=(FOUND, "lost"))

    replies = replies_of(SearchApplication(refresh, 1), *searches(4), *searches(4, partial=True))
    assert [reply.status_code for reply in replies] == [503] * 4 + [200] * 4
    assert all(reply.json()["missing"][0]["reason"] == "lost" for reply in replies)


def test_what_is_no_search_is_told_so():
    class Broken(Shards):
        async def search(self, codes, k):
            raise OSError("secret path")

    async def refresh(served):
        return served or Broken("one")

    asked = [("GET", "/search", ""), ("POST", "/", "{}"), ("POST", "/search", "{"), ("POST", "/search", b"\xff")]
    asked += [("POST", "/search", "[" * 100_000), ("POST", "/search", " " * (request_bytes(16) + 1)), *searches()]
    replies = replies_of(SearchApplication(refresh, 1), *asked)
    assert [reply.status_code for reply in replies] == [404, 404, 400, 400, 400, 413, 500]
    assert all(reply.json()["error"] for reply in replies)
    assert "secret" not in replies[-1].text


def test_other_hosts_sites_and_absurd_values_are_refused():
    async def refresh(served):
        return served or Shards("one")

    async def ask():
        application = SearchApplication(refresh, 1, ("search.example",))
        httpx = pytest.importorskip("httpx")
        transport = httpx.ASGITransport(application)
        body = json.dumps({"codes": ["AAA="], "k": 1})
        async with httpx.AsyncClient(transport=transport, base_url="http://search.example") as client:
            headers = [{}, {"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "http://["}]
            replies = [await client.post("/search", content=body, headers=one) for one in headers]
            long = json.dumps({"codes": ["AAA="], "k": "x" * 50_000})
            return [*replies, await client.post("/search", content=long)]

    replies = asyncio.run(ask())
    assert [reply.status_code for reply in replies] == [200, 400, 403, 403, 400]
    assert all(len(reply.json()["error"]) <= 300 for reply in replies[1:])


def test_a_saved_index_is_served_and_replaced(code_folder, tmp_path):
    read = [read_codes(path) for path in sorted((code_folder / "database").glob("shard-0000?.npy"))[:2]]
    queries = read_codes(code_folder / "queries.npy").codes[:30]

    def save(which):
        one = read[which]
        save_index(one.codes, one.ids, read_hasher_info(one.description), "flat", {}, tmp_path / "index")

    async def refresh(served):
        return await refresh_index(tmp_path / "index", served)

    def expected(which):
        distances, rows = index(read[which].codes, "flat", bits=16).search(queries, 4)
        return distances.tolist(), read[which].ids[rows.numpy()].tolist()

    save(0)
    application = SearchApplication(refresh, AT_ONCE)
    asked = [("POST", "/search", json.dumps({"codes": [code], "k": 4})) for code in encoded(queries)]
    first = replies_of(application, ("GET", "/status", ""), *asked)
    assert first[0].json()["size"] == len(read[0].codes)
    save(1)
    asyncio.run(application.look())
    second = replies_of(application, *asked)
    for which, replies in ((0, first[1:]), (1, second)):
        distances, ids = expected(which)
        assert [reply.json()["distances"][0] for reply in replies] == distances
        assert [reply.json()["ids"][0] for reply in replies] == ids
