"""An index in shards, served: exact replies, a killed shard, and a release replaced while queries run."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
import torch

from deephash.cluster.code_shards import open_shards
from deephash.cluster.shard_service import read_request, reply_of
from deephash.cluster.sharded_index import (
    DESCRIPTION,
    IndexRelease,
    IndexShard,
    OpenShard,
    ShardAnswer,
    merge_answers,
    read_release,
    write_sharded,
)
from deephash.encoding.code_file import read_codes
from deephash.index_building import index
from deephash.ranking.nearest_merge import merge_nearest
from deephash.validation import InvalidInputError

K = 7


@pytest.fixture(scope="module")
def database(shards_folder):
    """Codes and ids of all shards."""
    read = [read_codes(path) for path in open_shards([shards_folder / "database"]).paths]
    return torch.cat([one.codes for one in read]), np.concatenate([one.ids for one in read])


@pytest.fixture(scope="module")
def queries(shards_folder):
    return read_codes(shards_folder / "queries.npy").codes[:40]


def expected(database, queries, k=K):
    """Distances and ids that a scan of all codes finds."""
    distances, rows = index(database[0], "flat", bits=16).search(queries, k)
    return distances.tolist(), database[1][rows.numpy()].tolist()


@pytest.mark.parametrize(("shards", "kind"), [(1, "flat"), (4, "flat"), (None, "mih")])
def test_shards_merge_to_the_scan_of_all(shards_folder, database, queries, tmp_path, shards, kind):
    release = write_sharded(shards_folder / "database", tmp_path, shards, kind, {})
    assert len(release.shards) == (shards or 5)
    merged = merge_answers([OpenShard(shard).search(queries, 900) for shard in reversed(release.shards)], 900)
    distances, ids = expected(database, queries, 900)
    assert merged.distances.tolist() == distances
    assert merged.names.tolist() == ids


def test_a_new_release_leaves_the_one_before(shards_folder, tmp_path):
    names = [write_sharded(shards_folder / "database", tmp_path, 2, "flat", {}).name for _ in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], DESCRIPTION])
    assert read_release(tmp_path).name == names[2]
    with pytest.raises(InvalidInputError, match="holds something else than a sharded index"):
        write_sharded(shards_folder / "database", shards_folder, 2, "flat", {})
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(InvalidInputError, match="damaged"):
        read_release(tmp_path)


RELEASE = IndexRelease("release-0", 16, "h", (IndexShard("a", 0, 2), IndexShard("b", 2, 3)))


def test_a_silent_shard_is_never_passed_over():
    answer = ShardAnswer(np.array([[1, 2]]), np.array([[1, 0]]), np.array([[11, 10]]))
    reply, status = reply_of(RELEASE, [answer, "lost"], 3, partial=False)
    assert (status, reply["partial"], "ids" in reply) == (503, True, False)
    reply, status = reply_of(RELEASE, [answer, "lost"], 3, partial=True)
    assert (status, reply["ids"]) == (200, [[11, 10]])
    assert reply["missing"] == [{"shard": 1, "start": 2, "size": 3, "reason": "lost"}]
    assert reply_of(RELEASE, ["lost", "lost"], 3, partial=True)[1] == 503
    with pytest.raises(InvalidInputError, match="no shard gave"):
        merge_nearest([], [], 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "expected"),
        ({"codes": ["AAA="], "k": 6}, "k=6; expected a whole number from 1 to 5"),
        ({"codes": ["AAA="], "k": True}, "k=True"),
        ({"codes": [], "k": 1}, "0 codes; expected 1 to"),
        ({"codes": ["AA=="], "k": 1}, "not of 2 bytes"),
        ({"codes": ["?"], "k": 1}, "no base64"),
        ({"codes": [5], "k": 1}, "no base64"),
        ({"codes": ["AAA="], "k": 1, "partial": 1}, "partial=1"),
    ],
)
def test_requests_that_cannot_be_read_are_told_why(asked, message):
    with pytest.raises(InvalidInputError, match=message):
        read_request(asked, RELEASE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def replicas_of(driver):
    """Processes of the shards' replicas below a driver, oldest first."""
    named = []
    for child in driver.children(recursive=True):
        try:
            if "ShardReplica" in " ".join([child.name(), *child.cmdline()]):
                named.append(child)
        except psutil.Error:
            continue
    return sorted(named, key=lambda child: child.create_time())


def test_served_through_a_kill_and_a_new_release(shards_folder, database, queries, tmp_path):
    pytest.importorskip("ray")
    first = write_sharded(shards_folder / "database", tmp_path / "index", 2, "flat", {})
    port = free_port()
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "deephash.command_line.main", "serve", str(tmp_path / "index"), "--port", str(port)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    asked = {"codes": [base64.b64encode(bytes(code.tolist())).decode() for code in queries], "k": K}
    distances, ids = expected(database, queries)
    stop, replies = [], []

    def ask(client, **more):
        return client.post(f"http://127.0.0.1:{port}/search", json={**asked, **more}, timeout=60)

    def keep_asking():
        with httpx.Client() as client:
            while not stop:
                replies.append(ask(client))

    pool = ThreadPoolExecutor(2)
    try:
        assert "2 shards" in process.stdout.readline(), (tmp_path / "errors").read_text()
        with httpx.Client() as client:
            reply = ask(client).json()
            assert (reply["distances"], reply["ids"], reply["partial"]) == (distances, ids, False)
            assert client.get(f"http://127.0.0.1:{port}/status").json()["size"] == len(database[0])
            assert ask(client, k=0).status_code == 400
            asking = [pool.submit(keep_asking) for _ in range(2)]
            replicas_of(psutil.Process(process.pid))[0].send_signal(signal.SIGKILL)
            partial = ask(client, partial=True)
            deadline = time.monotonic() + 60
            while ask(client).status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.1)
            second = write_sharded(shards_folder / "database", tmp_path / "index", 3, "flat", {})
            # Ray tells of the killed process in between.
            assert any(second.name in line for line in process.stdout)
            time.sleep(0.5)
            stop.append(True)
            for one in asking:
                one.result()
            assert ask(client).json()["release"] == second.name
    finally:
        stop.append(True)
        pool.shutdown()
        # Not SIGINT, which what a shell starts in the background ignores.
        process.terminate()
        process.communicate(timeout=60)
    assert partial.status_code in (200, 503)
    if partial.json()["partial"]:
        assert partial.json()["missing"]
    assert {reply.status_code for reply in replies} <= {200, 503}
    for reply in replies:
        found = reply.json()
        if reply.status_code == 200:
            assert (found["distances"], found["ids"], found["partial"]) == (distances, ids, False)
        else:
            assert found["missing"]
    releases = [reply.json()["release"] for reply in replies]
    assert set(releases) == {first.name, second.name}
    # From the first reply of the new release on, no query fails.
    assert all(reply.status_code == 200 for reply in replies[releases.index(second.name) :])
