"""Direct requests to the replicas of a shard: the choice of a replica, its end, and invalid replies."""

import asyncio
import json

import numpy as np
import pytest
import torch

from deephash.cluster.shard_client import ShardClient
from deephash.cluster.shard_messages import encode_message, read_message
from deephash.cluster.shard_server import ShardServer, addresses_folder
from deephash.code_files.code_file import read_codes
from deephash.code_files.write_sharded import write_sharded
from deephash.indexes.sharded_index import OpenShard
from deephash.validation import InvalidInputError

K = 5


@pytest.fixture
def shards(code_folder, tmp_path):
    return write_sharded(code_folder / "database", tmp_path, 2, "flat", {}).shards


@pytest.fixture(scope="module")
def queries(code_folder):
    return read_codes(code_folder / "queries.npy").codes[:20].numpy()


class EndingServer(ShardServer):
    """A replica of which the test knows how often it was asked, and that can end at any moment."""

    def __init__(self, shard):
        super().__init__(shard)
        self.count, self.writers, self.stall = 0, [], asyncio.Event()
        self.stall.set()

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        await self.stall.wait()
        await super()._serve(reader, writer)

    def _answer(self, asked):
        self.count += 1
        return super()._answer(asked)

    def kill(self):
        """End as a killed process does: nothing is taken back, connections break."""
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


async def started(shard):
    server = EndingServer(shard)
    await server.start("127.0.0.1")
    return server


async def ended(client, *servers):
    client.close()
    for server in servers:
        server.kill()
    await asyncio.sleep(0.05)  # Until both ends have noticed.


def assert_right(found, shard, queries):
    expected = OpenShard(shard).search(torch.from_numpy(queries), K)
    for part in ("distances", "rows", "names"):
        assert np.array_equal(getattr(found, part), getattr(expected, part))


def test_two_replicas_share_and_one_takes_over(shards, queries):
    async def scene():
        first, second = await started(shards[1]), await started(shards[1])
        client = ShardClient(shards[1])
        for found in await asyncio.gather(*(client.search(queries, K) for _ in range(20))):
            assert_right(found, shards[1], queries)
        assert min(first.count, second.count) > 0
        assert first.count + second.count == 20
        first.kill()
        for found in await asyncio.gather(*(client.search(queries, K) for _ in range(20))):
            assert_right(found, shards[1], queries)
        assert second.count >= 20
        second.withdraw()
        third = await started(shards[1])
        client.looked -= 10
        assert_right(await client.search(queries, K), shards[1], queries)
        assert third.count == 1  # One that was told to end is asked no more.
        await ended(client, first, second, third)

    asyncio.run(scene())


def test_a_request_outlives_its_replica_and_the_time_until_the_next(shards, queries):
    async def scene():
        first = await started(shards[0])
        first.stall.clear()
        client = ShardClient(shards[0])
        asked = asyncio.create_task(client.search(queries, K))
        while not first.writers:
            await asyncio.sleep(0.01)
        first.kill()
        await asyncio.sleep(0.3)
        assert not asked.done()
        second = await started(shards[0])
        assert_right(await asked, shards[0], queries)
        await ended(client, first, second)

    asyncio.run(scene())


def test_a_replica_that_stalls_is_left_for_another(shards, queries):
    async def scene():
        client = ShardClient(shards[0], seconds_to_answer=0.2, seconds_to_give_up=5)
        stalled = await started(shards[0])
        stalled.stall.clear()
        asked = asyncio.create_task(client.search(queries, K))
        while not stalled.writers:
            await asyncio.sleep(0.01)
        other = await started(shards[0])
        client.looked -= 10
        assert_right(await client.search(queries, K), shards[0], queries)
        assert_right(await asked, shards[0], queries)
        assert (stalled.count, other.count) == (0, 2)
        stalled.stall.set()
        await ended(client, stalled, other)

    asyncio.run(scene())


def test_a_shard_without_replicas_says_why(shards, queries):
    async def scene():
        client = ShardClient(shards[0], seconds_to_give_up=0.3)
        assert await client.search(queries, K) == "it has no replica"
        folder = addresses_folder(shards[0])
        folder.mkdir(parents=True)
        other = await started(shards[1])
        port = other.server.sockets[0].getsockname()[1]
        (folder / "left.json").write_text(json.dumps({"host": "127.0.0.1", "port": port}))
        (folder / "broken.json").write_text("{")
        # What an ended replica left may lead to a replica of another shard, to a stranger, or to nobody.
        client.looked -= 10
        assert await client.search(queries, K) == "its replica has ended"
        assert other.count == 1

        async def answer_otherwise(_, writer):
            writer.write(b"HTTP/1.1 400 Bad Request")
            writer.close()

        stranger = await asyncio.start_server(answer_otherwise, "127.0.0.1", 0)
        address = {"host": "127.0.0.1", "port": stranger.sockets[0].getsockname()[1]}
        (folder / "strange.json").write_text(json.dumps(address))
        client.looked -= 10
        assert await client.search(queries, K) == "its replica has ended"
        stranger.close()
        (folder / "closed.json").write_text(json.dumps(address))
        client.looked -= 10
        assert await client.search(queries, K) == "its replica has ended"
        # Beside all of these, the right one is found.
        right = await started(shards[0])
        client.looked -= 10
        assert_right(await client.search(queries, K), shards[0], queries)
        await ended(client, other, right)

    asyncio.run(scene())


def test_what_a_search_refuses_is_its_reason(shards, queries):
    async def scene():
        server = await started(shards[0])
        client = ShardClient(shards[0])
        found = await client.search(np.zeros((1, 9), np.uint8), K)
        assert isinstance(found, str)
        assert "codes" in found
        await ended(client, server)

    asyncio.run(scene())


def test_messages_keep_arrays_and_hold_no_objects():
    async def read(data):
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        return await read_message(reader)

    arrays = [np.arange(6).reshape(2, 3), np.array([["ä", "word"]]), np.zeros((0, 4), np.uint8)]
    for read_back, array in zip(asyncio.run(read(encode_message(*arrays))), arrays, strict=True):
        assert np.array_equal(read_back, array)
        assert read_back.dtype == array.dtype
    with pytest.raises(ValueError, match="allow_pickle"):
        encode_message(np.array([{}]))
    message = encode_message(np.arange(3))
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(read(message[:-1]))
    for damaged in (message[:8] + b"x" * (len(message) - 8), b"\xff" * 8):
        with pytest.raises(InvalidInputError, match="message"):
            asyncio.run(read(damaged))
