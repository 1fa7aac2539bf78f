"""Load on `deephash serve` over loopback: throughput and latency, while replicas are killed and the index replaced.

python benchmarks/serve.py [--items 1000000] [--shards 2] [--replicas 2] [--clients 8] [--seconds 60]

Three turns of the same load: one shard of one replica; shards and replicas as asked; and these again while a replica is
killed every five seconds and a new release of the index takes over at half time. Every reply is compared with a scan
of all codes: a wrong one, or a partial one that does not say so, ends the program. Refused queries (status 503, which
names the missing shards) and lost ones (no reply) are counted. Clients are threads of this process, which takes a core
itself.
"""

import argparse
import base64
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import psutil

from deephash.cluster.sharded_index import write_sharded
from deephash.encoding.code_file import CodePaths, describe_codes
from deephash.files import write_json
from deephash.index_building import index
from deephash.ranking.distance import Hamming

BITS, K, QUERIES, SECONDS_BETWEEN_KILLS = 64, 10, 64, 5.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Service:
    """`deephash serve` as a process, ready on entry."""

    def __init__(self, folder, replicas):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [
            sys.executable,
            "-m",
            "deephash.command_line.main",
            "serve",
            folder,
            "--replicas",
            replicas,
            "--port",
            port,
        ]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)

    def __enter__(self):
        assert "serves" in self.process.stdout.readline(), "the service did not start"
        self.reader.start()
        return self

    def __exit__(self, *error):
        self.process.send_signal(2)
        self.process.wait(60)

    def kill_one(self, draw):
        """SIGKILL to one of the shards' replicas; whether there was any."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "ShardReplica" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        if found:
            found[draw.integers(len(found))].kill()
        return bool(found)


def load(service, codes, truth, clients, seconds):
    """Ask from all clients for some seconds: latencies of whole replies, and how often each outcome came."""
    latencies, outcomes, wrong = [], Counter(), []
    encoded = [base64.b64encode(bytes(code)).decode() for code in codes]
    ends = time.monotonic() + seconds

    def ask(client_number):
        draw = np.random.default_rng(client_number)
        with httpx.Client(timeout=60) as client:
            while time.monotonic() < ends and not wrong:
                query = int(draw.integers(len(encoded)))
                started = time.perf_counter()
                try:
                    reply = client.post(f"{service.url}/search", json={"codes": [encoded[query]], "k": K})
                except httpx.HTTPError:
                    outcomes["lost"] += 1
                    continue
                found = reply.json()
                outcomes[reply.status_code] += 1
                if reply.status_code == 200:
                    latencies.append(time.perf_counter() - started)
                    outcomes[found["release"]] += 1
                    if found["partial"] or (found["distances"][0], found["ids"][0]) != truth[query]:
                        wrong.append(found)
                elif reply.status_code != 503 or not found["missing"]:
                    wrong.append(found)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join()
    assert not wrong, f"a wrong reply: {wrong[0]}"
    low, high = np.percentile(latencies, [50, 99]) * 1e3
    releases = sum(isinstance(name, str) and name.startswith("release") for name in outcomes)
    yield (
        f"{len(latencies) / seconds:8.1f} queries/s, p50 {low:.1f} ms, p99 {high:.1f} ms; {outcomes[200]} answered, "
        f"{outcomes[503]} refused, {outcomes['lost']} lost, {releases} release(s), 0 wrong"
    )


def turn(name, folder, replicas, arguments, codes, truth, disturb=None):
    with Service(folder, replicas) as service:
        for _ in load(service, codes, truth, 1, 3):
            pass  # Compiled and warm.
        running = load(service, codes, truth, arguments.clients, arguments.seconds)
        next(running)
        if disturb is not None:
            disturb(service)
        print(f"{name}: {next(running)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 256, (arguments.items, BITS // 8), np.uint8)
    queries = codes[draw.integers(0, arguments.items, QUERIES)]
    distances, ids = index(codes, "flat").search(queries, K)
    truth = list(zip(distances.tolist(), ids.tolist(), strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = CodePaths(folder / "codes.npy")
        np.save(paths.codes, codes)
        np.save(paths.ids, np.arange(arguments.items))
        described = describe_codes(paths, arguments.items, 0, "random", Hamming(BITS), BITS, "", "random")
        write_json(paths.description, described)
        for shards in (1, arguments.shards):
            write_sharded(paths.codes, folder / f"index-{shards}", shards, "flat", {})
        many = folder / f"index-{arguments.shards}"

        def disturb(service):
            ends = time.monotonic() + arguments.seconds
            replaced = False
            while time.monotonic() < ends - SECONDS_BETWEEN_KILLS:
                time.sleep(SECONDS_BETWEEN_KILLS)
                service.kill_one(draw)
                if not replaced and time.monotonic() > ends - arguments.seconds / 2:
                    write_sharded(paths.codes, many, arguments.shards, "flat", {})
                    replaced = True

        turn("one shard, one replica", folder / "index-1", 1, arguments, queries, truth)
        shape = f"{arguments.shards} shards, {arguments.replicas} replicas"
        turn(shape, many, arguments.replicas, arguments, queries, truth)
        turn(f"{shape}, killed and replaced", many, arguments.replicas, arguments, queries, truth, disturb)


if __name__ == "__main__":
    main()
