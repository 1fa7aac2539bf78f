"""Load on `deephash serve` over loopback: throughput and latency, while replicas are killed and the index replaced.

python benchmarks/serve.py [--items 2000000] [--shards 2] [--replicas 2] [--connections 32] [--seconds 20] [--turns ...]

The load is that of wrk (`apt-get install wrk`): each connection sends one query after another, drawn from 256, for its
10 nearest. The turns are

- `one`: a saved index of all codes in one process, of one thread,
- `one-wide`: the same with a thread for each core,
- `shards`: the given shards and replicas, each of one thread,
- `replaced`: the same under eight connections, while a new release replaces the index, which must take at most 5 s from
  its build,
- `disturbed`: the same for three times as long, while a replica is killed every ten seconds, or as soon as the previous
  one has restarted, and a new release replaces the index before the load ends.

Every reply is compared with a scan of all codes: a wrong one, or a partial one without `partial`, ends the program.
Refused queries (status 503, which names the missing shards) and lost ones (no reply within 30 s) are counted. The
clients share this machine's cores with the servers.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from deephash.code_files.code_file import CodePaths, describe_codes, read_codes
from deephash.code_files.index_codes import read_hasher_info, save_index
from deephash.code_files.write_sharded import write_sharded
from deephash.indexes.build_index import index
from deephash.io.files import write_json
from deephash.ranking.distance import Hamming

BITS, K, QUERIES, SECONDS_BETWEEN_KILLS, LONGER = 64, 10, 256, 10.0, 3
TURNS = ("one", "one-wide", "shards", "replaced", "disturbed")
# Seconds from the build of a release until requests reach it, and connections meanwhile.
MAX_SECONDS_TO_REPLACE, CLIENTS_WHILE_REPLACED = 5.0, 8


def find_free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """A process of `deephash serve` with some threads, ready on entry."""

    def __init__(self, folder, *options, threads=1):
        self.url = f"http://127.0.0.1:{(port := find_free_port())}"
        command = ["-m", "deephash.command_line.main", "serve", str(folder), "--port", str(port), *map(str, options)]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder, self.release, self.served = folder, "", threading.Semaphore(0)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if " serves " in line:
                self.release = line.split()[-1]
                self.served.release()

    def wait_for_release(self, seconds):
        """Wait until the service reports that it serves a release."""
        assert self.served.acquire(timeout=seconds), f"no release was served within {seconds:.0f} s"

    def __enter__(self):
        self.wait_for_release(300)
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(60)

    def kill_one(self, draw, whole):
        """Send SIGKILL to one replica of the served release, if all replicas answer."""
        addresses = [json.loads(path.read_text()) for path in self.folder.glob(f"{self.release}/replicas/*/*.json")]
        living = [psutil.Process(one["process"]) for one in addresses if psutil.pid_exists(one["process"])]
        if len(living) < whole:
            return False
        living[draw.integers(len(living))].kill()
        return True


def write_queries(path, codes, distances, ids):
    """Write the queries of the Lua script with the JSON that a correct reply contains."""
    rows = []
    for code, near, names in zip(codes, distances.tolist(), ids.tolist(), strict=True):
        body = json.dumps({"codes": [base64.b64encode(bytes(code)).decode()], "k": K})
        expected = json.dumps({"distances": [near], "ids": [names]}, separators=(",", ":"))[1:-1]
        rows.append(f"{{body=[=[{body}]=], expected=[=[{expected}]=]}}")
    path.write_text("return {" + ",\n".join(rows) + "}\n")


def start_load(url, queries, connections, seconds):
    script = Path(__file__).with_suffix(".lua")
    sizes = [f"-t{connections}", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s"]
    return subprocess.Popen(["wrk", *sizes, "-s", script, url, "--", queries], stdout=subprocess.PIPE, text=True)


def finish_load(load):
    """Wait until wrk ends and return its results.

    Raises:
        AssertionError: a wrong reply, or none at all.
    """
    printed, _ = load.communicate()
    found = json.loads(printed.strip().splitlines()[-1])
    assert not found["wrong"], f"a wrong reply: {found['wrong']}"
    assert found["answered"], f"no reply: {printed}"
    return found


def format_row(name, found, alone):
    rate = found["answered"] / found["seconds"]
    lone = "" if alone is None else f"{alone['p50']:.2f}"
    return (
        f"| {name} | {rate:,.0f} | {found['p50']:.1f} | {found['p99']:.1f} | {lone} | {found['answered']:,} | "
        f"{found['refused']} | {found['lost']} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--turns", nargs="+", choices=TURNS, default=TURNS)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not on the path; install it, for example by apt-get install wrk.")
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 256, (arguments.items, BITS // 8), np.uint8)
    asked = codes[draw.integers(0, arguments.items, QUERIES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, queries = CodePaths(folder / "codes.npy"), folder / "queries.lua"
        np.save(paths.codes, codes)
        np.save(paths.ids, np.arange(arguments.items))
        described = describe_codes(paths, arguments.items, 0, "random", Hamming(BITS), BITS, "", "random")
        write_json(paths.description, described)
        write_queries(queries, asked, *index(codes, "flat").search(asked, K))
        one, many = folder / "one", folder / "many"
        read = read_codes(paths.codes)
        save_index(read.codes, read.ids, read_hasher_info(read.description), "flat", {}, one)
        write_sharded(paths.codes, many, arguments.shards, "flat", {})

        def measure_alone_and_together(service):
            finish_load(start_load(service.url, queries, 2, 3))  # Warm-up.
            alone = finish_load(start_load(service.url, queries, 1, 5))
            return finish_load(start_load(service.url, queries, arguments.connections, arguments.seconds)), alone

        def measure_replaced(service):
            finish_load(start_load(service.url, queries, 2, 3))
            load = start_load(service.url, queries, CLIENTS_WHILE_REPLACED, max(arguments.seconds, 15))
            time.sleep(2)
            write_sharded(paths.codes, many, arguments.shards, "flat", {})
            built = time.monotonic()
            service.wait_for_release(30)
            seconds = time.monotonic() - built
            print(f"replaced {seconds:.1f} s after its build", flush=True)
            found = finish_load(load)
            assert seconds <= MAX_SECONDS_TO_REPLACE, f"replaced after {seconds:.1f} s"
            assert found["releases"] == 2, "no reply of the new release"
            return found, None

        def measure_disturbed(service):
            seconds = LONGER * arguments.seconds
            finish_load(start_load(service.url, queries, 2, 3))
            load = start_load(service.url, queries, arguments.connections, seconds)
            started, kills = time.monotonic(), 0
            time.sleep(2)
            write_sharded(paths.codes, many, arguments.shards, "flat", {})
            built, is_replaced = time.monotonic(), threading.Event()

            def wait_for_release():
                service.wait_for_release(seconds)
                print(f"replaced {time.monotonic() - built:.1f} s after its build", flush=True)
                is_replaced.set()

            threading.Thread(target=wait_for_release, daemon=True).start()
            while time.monotonic() < started + seconds - 2:
                # The next one only after the previous one has restarted, so that each shard always has a replica.
                killed = service.kill_one(draw, arguments.replicas * arguments.shards)
                kills += killed
                time.sleep(SECONDS_BETWEEN_KILLS if killed else 1)
            found = finish_load(load)
            assert is_replaced.is_set(), "the release was not replaced under load"
            assert found["releases"] == 2, "no reply of the new release"
            assert kills, "no replica was killed"
            print(f"{kills} replicas killed", flush=True)
            return found, None

        shape = f"{arguments.shards} shards × {arguments.replicas} replicas"
        shards = (many, "--replicas", arguments.replicas)
        cores = os.cpu_count() or 1
        turns = {
            "one": ("one process, 1 thread", (one,), 1, measure_alone_and_together),
            "one-wide": (f"one process, {cores} threads", (one,), cores, measure_alone_and_together),
            "shards": (shape, shards, 1, measure_alone_and_together),
            "replaced": (f"{shape}, {CLIENTS_WHILE_REPLACED} connections, replaced", shards, 1, measure_replaced),
            "disturbed": (f"{shape}, killed and replaced", shards, 1, measure_disturbed),
        }
        print("| | queries/s | p50, ms | p99, ms | p50 of a lone client, ms | answered | refused | lost |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for turn in arguments.turns:
            title, options, threads, measure = turns[turn]
            with Service(*options, threads=threads) as service:
                print(format_row(title, *measure(service)), flush=True)


if __name__ == "__main__":
    main()
