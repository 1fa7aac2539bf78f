"""A release replaces another in all serving processes: at once, completely, and only if it can be loaded."""

import asyncio
import shutil
import threading
from dataclasses import asdict

import numpy as np
import pytest
import torch

from deephash.cluster import shard_service, takeover
from deephash.cluster.shard_server import addresses_folder, read_notes, write_note
from deephash.cluster.shard_service import follow_releases, refresh_shards
from deephash.cluster.takeover import SERVING, Holder, NewRelease, forget_losses, read_served
from deephash.code_files.code_file import read_codes
from deephash.code_files.write_sharded import write_sharded
from deephash.indexes.sharded_index import open_release, read_release
from deephash.io.files import write_json
from deephash.validation import InvalidInputError

K = 5
HERE = "127.0.0.1"


@pytest.fixture
def build(code_folder, tmp_path):
    """A function from a number of shards to a new release in the folder `index`."""
    return lambda shards: write_sharded(code_folder / "database", tmp_path / "index", shards, "flat", {})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Nothing is waited for longer than a test needs."""
    for module in (takeover, shard_service):
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(takeover, "SECONDS_TO_LEAVE", 0.2)
    monkeypatch.setattr(takeover, "SECONDS_BETWEEN_ATTEMPTS", 0.2)


def serve(folder, release):
    write_json(folder / SERVING, asdict(release))


@pytest.mark.parametrize("shards", [2, 1, 5])
def test_a_release_takes_over_while_queries_run(build, folder, code_folder, shards):
    """Two processes of two replicas each; the new release has as many shards, fewer, or more."""
    queries = read_codes(code_folder / "queries.npy").codes[:8]
    first = build(2)
    serve(folder, first)
    expected = open_release(folder).search(queries, K)

    async def scene():
        holders = [Holder(folder, number % 2, 2, 2, HERE) for number in range(4)]
        for holder in holders:
            await holder.start()
        following = [asyncio.create_task(holder.follow()) for holder in holders]
        served, told = await refresh_shards(folder, None), []
        answers = [await served.search(queries.numpy(), K)]
        second = await asyncio.to_thread(build, shards)
        driver = threading.Thread(target=follow_releases, args=(folder, first, 2, told.append, 1.5))
        driver.start()
        while driver.is_alive():
            before, served = served, await refresh_shards(folder, served)
            if served is not before:
                before.close()
            answers.append(await served.search(queries.numpy(), K))
            await asyncio.sleep(0.01)
        held = [sorted(holder.held) for holder in holders]
        for task in following:
            task.cancel()
        for holder in holders:
            for servers in holder.held.values():
                for server in servers:
                    server.close()
        served.close()
        await asyncio.sleep(0.05)
        return second, told, answers, held

    second, told, answers, held = asyncio.run(scene())
    assert told == [second]
    assert read_served(folder) == second
    assert not any(answer.missing for answer in answers)
    for answer in answers:
        assert np.array_equal(answer.found.distances, expected.distances)
        assert np.array_equal(answer.found.names, expected.names)
    assert {answer.release.name for answer in answers} == {first.name, second.name}
    # The one before is let go of.
    assert held == [[second.name]] * 4


def test_a_damaged_release_leaves_the_one_before(build, folder, caplog):
    first = build(2)
    serve(folder, first)
    second = build(2)
    for path in (folder / second.name / "shard-00001").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")

    async def scene():
        holders = [Holder(folder, number, 2, 1, HERE) for number in range(2)]
        for holder in holders:
            await holder.start()
            await holder.look()
            assert first.name in holder.held
        served = await asyncio.to_thread(follow_releases, folder, first, 1, pytest.fail, 0.3)
        for holder in holders:
            holder.close()
            for servers in holder.held.values():
                for server in servers:
                    server.close()
        return served

    assert asyncio.run(scene()) == first
    assert read_served(folder) == first
    assert not NewRelease(second, 1).is_up
    assert "does not start, and is tried again" in caplog.text
    assert "shard-00001" in caplog.text
    assert len(caplog.records) == 1


def test_lost_replicas_are_not_waited_for_long(build, folder):
    release, now = build(2), [0.0]
    newer = NewRelease(release, 2, clock=lambda: now[0])
    assert not newer.is_up
    for shard in release.shards:
        write_note(shard, {"loading": True})
        assert not newer.is_up
        write_note(shard, {"host": HERE, "port": 1})
    assert not newer.is_up
    now[0] = 1.9
    assert not newer.is_up
    now[0] = 2.1
    assert newer.is_up
    again = NewRelease(release, 2, clock=lambda: now[0])
    for shard in release.shards:
        write_note(shard, {"host": HERE, "port": 2})
    assert again.is_up


def test_a_release_that_ends_processes_is_not_loaded_again_and_again(build, folder):
    release = build(1)
    serve(folder, release)
    (shard,) = release.shards
    for _ in range(takeover.MAX_LOST + 1):
        write_note(shard, {"loading": True})
    with pytest.raises(InvalidInputError, match="4 processes ended while loading"):
        Holder(folder, 0, 1, 1, HERE)
    assert NewRelease(release, 1).refusal.startswith("4 processes ended")
    # A service that is restarted tries it again.
    forget_losses(release)
    assert read_notes(shard) == {}
    assert list(Holder(folder, 0, 1, 1, HERE).first[1][0].opened.search(torch.zeros(1, 2, dtype=torch.uint8), 1).rows)


def test_a_release_that_is_gone_gives_way_to_the_newest(build, folder):
    first, second = build(1), build(1)
    serve(folder, first)
    shutil.rmtree(folder / first.name)
    assert Holder(folder, 0, 1, 1, HERE).first[0] == second.name
    assert read_release(folder) == second
    assert addresses_folder(second.shards[0]).is_dir()
