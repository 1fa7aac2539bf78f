"""An index in shards, served: exact replies, a killed shard, and a release replaced while queries run."""

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch

from deephash.code_files.code_file import read_codes
from deephash.code_files.code_shards import open_shards
from deephash.code_files.write_sharded import write_sharded
from deephash.indexes.build_index import index
from deephash.indexes.sharded_index import DESCRIPTION, OpenShard, merge_answers, open_release, read_release
from deephash.validation import InvalidInputError

K = 7


@pytest.fixture(scope="module")
def database(code_folder):
    """Codes and ids of all shards."""
    read = [read_codes(path) for path in open_shards([code_folder / "database"]).paths]
    return torch.cat([one.codes for one in read]), np.concatenate([one.ids for one in read])


@pytest.fixture(scope="module")
def queries(code_folder):
    return read_codes(code_folder / "queries.npy").codes[:40]


def expected(database, queries, k=K):
    """Distances and ids that a scan of all codes finds."""
    distances, rows = index(database[0], "flat", bits=16).search(queries, k)
    return distances.tolist(), database[1][rows.numpy()].tolist()


@pytest.mark.parametrize(("shards", "kind"), [(1, "flat"), (4, "flat"), (None, "mih")])
def test_shards_merge_to_the_scan_of_all(code_folder, database, queries, tmp_path, shards, kind):
    release = write_sharded(code_folder / "database", tmp_path, shards, kind, {})
    assert len(release.shards) == (shards or 5)
    merged = merge_answers([OpenShard(shard).search(queries, 900) for shard in reversed(release.shards)], 900)
    distances, ids = expected(database, queries, 900)
    assert merged.distances.tolist() == distances
    assert merged.names.tolist() == ids


def test_a_new_release_leaves_the_one_before(code_folder, tmp_path):
    names = [write_sharded(code_folder / "database", tmp_path, 2, "flat", {}).name for _ in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], DESCRIPTION])
    assert read_release(tmp_path).name == names[2]
    with pytest.raises(InvalidInputError, match="does not contain a sharded index"):
        write_sharded(code_folder / "database", code_folder, 2, "flat", {})
    (tmp_path / DESCRIPTION).write_text("{}")
    with pytest.raises(InvalidInputError, match="is not readable as an index in shards"):
        read_release(tmp_path)


def test_shards_that_count_their_ids_anew_keep_them(code_folder, queries, tmp_path):
    paths = open_shards([code_folder / "database"]).paths[:2]
    codes = []
    for path in paths:
        codes.append(read_codes(path).codes)
        for beside in path.parent.glob(f"{path.stem}.*"):
            shutil.copy(beside, tmp_path)
        np.save(tmp_path / f"{path.stem}.ids.npy", np.arange(len(codes[-1])))
    write_sharded(tmp_path, tmp_path / "index", None, "flat", {})
    found = open_release(tmp_path / "index").search(queries, 50)
    distances, rows = index(torch.cat(codes), "flat", bits=16).search(queries, 50)
    assert np.array_equal(found.distances, distances)
    assert np.array_equal(found.names, np.where(rows < len(codes[0]), rows, rows - len(codes[0])))


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


@pytest.mark.ci
def test_served_through_a_kill_and_a_new_release(code_folder, database, queries, tmp_path):
    pytest.importorskip("ray")
    httpx = pytest.importorskip("httpx")
    first = write_sharded(code_folder / "database", tmp_path / "index", 2, "flat", {})
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "deephash.command_line.main", "serve", str(tmp_path / "index"), "--port", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    asked = {"codes": [base64.b64encode(bytes(code.tolist())).decode() for code in queries], "k": K}
    distances, ids = expected(database, queries)
    stop, replies = [], []

    def keep_asking(url):
        with httpx.Client(timeout=60) as client:
            while not stop:
                replies.append(client.post(f"{url}/search", json=asked))

    pool = ThreadPoolExecutor(2)
    try:
        line = process.stdout.readline()
        assert "2 shards" in line, (tmp_path / "errors").read_text()
        url = line.split()[0]
        with httpx.Client(timeout=60) as client:
            assert client.get(f"{url}/status").json()["size"] == len(database[0])
            asking = [pool.submit(keep_asking, url) for _ in range(2)]
            replicas_of(psutil.Process(process.pid))[0].send_signal(signal.SIGKILL)
            partial = client.post(f"{url}/search", json={**asked, "partial": True})
            deadline = time.monotonic() + 90
            while client.post(f"{url}/search", json=asked).status_code != 200:  # Ray Serve starts it again.
                assert time.monotonic() < deadline
            second = write_sharded(code_folder / "database", tmp_path / "index", 1, "flat", {})
            # Ray tells of the killed process in between.
            assert any(second.name in line for line in process.stdout)
            while client.get(f"{url}/status").json()["release"] != second.name:
                assert time.monotonic() < deadline + 90
            count = len(replies)
            while len(replies) < count + 4 and time.monotonic() < deadline + 90:
                time.sleep(0.05)
            stop.append(True)
            for one in asking:
                one.result()
    finally:
        stop.append(True)
        pool.shutdown()
        # Not SIGINT, which what a shell starts in the background ignores.
        process.terminate()
        process.communicate(timeout=60)
    assert partial.status_code in (200, 503)
    assert partial.json()["partial"] is bool(partial.json()["missing"])
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
