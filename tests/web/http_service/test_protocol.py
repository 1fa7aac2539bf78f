"""Connections that stall at any point time out, and block no others."""

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'deephash[demo]'")

from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: E402

from deephash.web.http_service.protocol import ConnectionLimits, limit_protocol  # noqa: E402

LIMITS = ConnectionLimits(0.25, 0.25, 0.25, head_bytes=4096, connections=100)
REPLY = 30_000_000


def protocols():
    found = [H11Protocol]
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return found
    return [*found, HttpToolsProtocol]


async def application(scope, receive, send):
    """The length of the body; a large reply to /large; /early replies before it has read the body."""
    length, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        length, more = length + len(message["body"]), message["more_body"]
    text = bytes(REPLY) if scope["path"] == "/large" else str(length).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def serving(base):
    """A server's port."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        settings = uvicorn.Config(
            application, http=limit_protocol(base, LIMITS), log_level="error", lifespan="off", ws="none"
        )
        server = uvicorn.Server(settings)
        task = asyncio.create_task(server.serve([opened]))
        try:
            yield opened.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def told(port, *parts, pause=0.0):
    """All that comes back on one connection until the server ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
        if writer.transport.is_closing():
            break
    found = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return found


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n"
WHOLE = HEAD + b"connection: close\r\n\r\n12345"


@pytest.mark.parametrize("base", protocols())
@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([HEAD], b"408"),
        ([HEAD + b"\r\n", b"123"], b"408"),
        ([b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n", b"123"], b"200"),
        ([HEAD + b"x: " + b"a" * 5000], b"4"),
        ([b"GET / HTTP/1.1\r\nhost: a\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(500))], b"4"),
        ([WHOLE], b"200"),
    ],
)
def test_a_request_that_stalls_is_ended(base, parts, status):
    async def scene():
        async with serving(base) as port:
            return await told(port, *parts)

    assert asyncio.run(scene()).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("base", protocols())
def test_bytes_that_drip_do_not_extend_the_time(base):
    async def scene():
        async with serving(base) as port:
            return await told(port, *([HEAD] + [b"x: y\r\n"] * 100), pause=0.02)

    # It is ended long before its hundred parts are sent.
    with suppress(ConnectionError):
        assert asyncio.run(scene()).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("base", protocols())
def test_slow_connections_keep_nobody_out_and_end_in_silence(base):
    async def scene():
        async with serving(base) as port:
            silent = [asyncio.create_task(told(port)) for _ in range(40)]
            await asyncio.sleep(0.02)
            found = await told(port, WHOLE)
            assert not any(one.done() for one in silent)
            return found, await asyncio.gather(*silent)

    found, silent = asyncio.run(scene())
    assert found.startswith(b"HTTP/1.1 200")
    assert silent == [b""] * 40


@pytest.mark.parametrize("base", protocols())
def test_a_connection_serves_several_requests(base):
    async def scene():
        async with serving(base) as port:
            return await told(port, HEAD + b"\r\n12345", HEAD + b"\r\n12345", WHOLE, pause=0.1)

    assert asyncio.run(scene()).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("base", protocols())
def test_a_reply_that_is_not_taken_ends_the_connection(base):
    async def scene():
        async with serving(base) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
            await asyncio.sleep(0.6)
            try:
                return len(await reader.read())
            except ConnectionError:
                return 0
            finally:
                writer.close()

    assert asyncio.run(scene()) < REPLY
