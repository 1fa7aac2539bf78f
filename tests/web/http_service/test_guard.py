"""Requests that are rejected before an application runs: foreign names and sites, malformed headers, large bodies."""

import asyncio
import json

import pytest

from deephash.web.http_service.guard import RequestGuard
from deephash.web.http_service.host_names import is_named, is_same_origin, parse_host

HOST = (b"host", b"127.0.0.1:8000")


def replies_to(requests, **settings):
    """Status, JSON and headers of requests (headers, parts of the body) that are asked at the same time."""
    asked = []

    async def application(scope, receive, send):
        asked.append((await receive())["body"])
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Cache-Control", b"public")]})
        await send({"type": "http.response.body", "body": b'{"detail": "answered"}'})

    guard = RequestGuard(
        application,
        **{"hosts": ("localhost", "127.0.0.1"), "max_body": lambda path: 10, "headers": {"Cache-Control": "no-store"}}
        | settings,
    )

    async def reply(headers, parts):
        parts, sent = list(parts), []

        async def receive():
            await asyncio.sleep(0)
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "path": "/", "headers": list(headers), "server": ("192.0.2.7", 8000)}
        await guard(scope, receive, send)
        return (sent[0]["status"], json.loads(sent[1]["body"])["detail"], sent[0]["headers"]) if sent else None

    async def all_replies():
        return await asyncio.gather(*(reply(*request) for request in requests))

    found = asyncio.run(all_replies())
    assert guard.requests == guard.buffered == 0
    return found, asked


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.1@evil.example",
        b"",
        b"[",
        b"[::1",
        b"a b",
        b"\xff",
        b"::1",
    ],
)
def test_foreign_and_malformed_hosts_are_refused(host):
    (reply,), asked = replies_to([([(b"host", host)], [b""])])
    assert (reply[0], asked) == (400, [])


def test_a_host_is_named_once():
    found, asked = replies_to([([], [b""]), ([HOST, HOST], [b""])])
    assert [reply[0] for reply in found] == [400, 400]
    assert asked == []


def test_own_names_and_the_address_that_is_connected_to_are_taken():
    hosts = (b"127.0.0.1", b"LOCALHOST:8000", b"localhost.", b"192.0.2.7:8000")
    found, _ = replies_to([([(b"host", host)], [b""]) for host in hosts])
    assert [reply[0] for reply in found] == [200] * 4


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://127.0.0.1:8000", 200),
        (b"https://127.0.0.1:8000", 200),
        (b"http://127.0.0.1:8001", 403),
        (b"http://evil.example", 403),
        (b"http://[", 403),
        (b"http://[::1]]:8000/", 403),
        (b"null", 403),
        (b"", 403),
        (b"\xff\xfe", 403),
        (b"http://127.0.0.1:8000@evil.example", 403),
        (b"ftp://127.0.0.1:8000", 403),
    ],
)
def test_other_and_malformed_origins_are_refused(origin, status):
    (reply,), asked = replies_to([([HOST, (b"origin", origin)], [b""])])
    assert (reply[0], len(asked)) == (status, int(status == 200))


def test_bodies_are_read_as_far_as_their_bound():
    claimed = [HOST, (b"content-length", b"11")]
    absurd = [HOST, (b"content-length", b"9" * 5000)]
    found, asked = replies_to(
        [([HOST], [b"12345", b"67890"]), ([HOST], [b"12345", b"678901"]), (claimed, []), (absurd, [])]
    )
    assert [reply[0] for reply in found] == [200, 413, 413, 413]
    assert asked == [b"1234567890"]


def test_a_body_that_claims_too_much_is_dropped_so_that_the_client_reads_why():
    headers, parts = [HOST, (b"content-length", b"4000")], [b"a" * 1000] * 4
    (reply,), asked = replies_to([(headers, parts)])
    assert (reply[0], asked) == (413, [])
    assert reply[1] == "This is larger than the limit of 10 bytes; choose a smaller one."
    (reply,), _ = replies_to([([HOST, (b"content-length", b"4x")], [b""])])
    assert reply[0] == 400


def test_clients_that_go_are_not_asked_for():
    found, asked = replies_to([([HOST], [])])
    assert (found, asked) == ([None], [])


def test_more_than_can_be_worked_on_is_turned_away():
    found, asked = replies_to([([HOST], [b"1"])] * 5, max_requests=3)
    assert sorted(reply[0] for reply in found) == [200, 200, 200, 503, 503]
    found, asked = replies_to([([HOST], [b"1234", b"5678"])] * 3, max_buffered=16)
    assert sorted(reply[0] for reply in found) == [200, 200, 503]
    assert asked == [b"12345678"] * 2


def test_slow_senders_take_nobodys_place():
    """A request whose body has not come keeps none of the places of those that have."""
    begun = asyncio.Event()

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def scene():
        guard = RequestGuard(application, ("localhost",), lambda path: 10, max_requests=1)
        scope, sent = {"type": "http", "path": "/", "headers": [(b"host", b"localhost")]}, []

        async def never():
            begun.set()
            await asyncio.Event().wait()

        async def whole():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        slow = [asyncio.create_task(guard(scope, never, send)) for _ in range(40)]
        await begun.wait()
        await guard(scope, whole, send)
        for one in slow:
            one.cancel()
        return sent

    assert [message["status"] for message in asyncio.run(scene())] == [200]


def test_every_reply_has_the_headers():
    found, _ = replies_to([([HOST], [b""]), ([], [b""])])
    for _, _, headers in found:
        assert [value for name, value in headers if name.lower() == b"cache-control"] == [b"no-store"]


def test_names_of_a_host():
    assert parse_host("[::1]:8000") == "::1"
    assert parse_host("Example.ORG.:80") == "example.org"
    assert parse_host("example.org:") is None
    assert is_named("a.example.org", ["*.example.org"])
    assert not is_named("evilexample.org", ["*.example.org"])
    assert is_named("a", ["*"])
    assert not is_same_origin("localhost", "localhost")
