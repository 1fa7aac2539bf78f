"""Several workers against one: encoding, scoring of shards, closed-form fits, and the cost of the distributed path.

python benchmarks/distributed.py [--items 4000000] [--queries 10000] [--rows 524288] [--rounds 5]

Prints ratios of times. Each worker has one thread, and a time is from the common start of the workers to the end of the
last one, without start-up:

- scoring: 2 processes of torch.distributed against one, and one process through the distributed path against
  the plain ranking of the same codes in memory;
- encoding: 2 workers against one, and one worker that makes shards against `encode_file`;
- fit: ITQ on 2 shares against one process on all rows.

Runs take turns, and each ratio is the median over rounds. A machine with two free cores is needed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from deephash.cluster.processes import sum_processes
from deephash.cluster.shard_encoding import ShardEncoder, ShardTask
from deephash.cluster.shard_ranking import rank_rows
from deephash.code_files.array_rows import open_npy
from deephash.code_files.code_file import CodePaths, describe_codes
from deephash.code_files.code_shards import open_queries, open_shards
from deephash.code_files.encode_file import BLOCK_ROWS, encode_file
from deephash.functional.principal_components import BLOCK_ROWS as FIT_BLOCK
from deephash.functional.row_shares import row_shares
from deephash.functional.shares import get_share
from deephash.hashers.hasher import Hasher
from deephash.io.files import write_json
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming
from deephash.ranking.relevance import SharedLabel, select_queries

BITS, DIMENSION, CLASSES, SHARD_ROWS = 64, 512, 10, 1 << 17


def write_codes(path, rows, seed):
    draw = np.random.default_rng(seed)
    paths = CodePaths(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(paths.codes, draw.integers(0, 256, (rows, BITS // 8), np.uint8))
    np.save(paths.labels, draw.integers(0, CLASSES, rows))
    np.save(paths.ids, np.arange(rows))
    write_json(paths.description, describe_codes(paths, rows, 0, "random", Hamming(BITS), BITS, "", "random"))


def prepare(folder, arguments):
    write_codes(folder / "queries.npy", arguments.queries, 0)
    for shard in range(2):
        write_codes(folder / "database" / f"shard-{shard}.npy", arguments.items // 2, shard + 1)
    draw = np.random.default_rng(3)
    features = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (arguments.rows, DIMENSION))
    for first in range(0, arguments.rows, SHARD_ROWS):
        count = min(SHARD_ROWS, arguments.rows - first)
        features[first : first + count] = draw.standard_normal((count, DIMENSION), np.float32)
    features.flush()
    start = torch.from_numpy(np.array(features[:5000]))
    Hasher(ITQ(DIMENSION, BITS), SBQ(BITS)).fit(start).save(folder / "hasher")


def score_share(folder, rank, world):
    shards = open_shards([folder / "database"])
    queries = open_queries(folder / "queries.npy", shards)

    def work():
        counts = rank_rows(queries, shards, get_share(len(shards), rank, world))
        sum_processes(counts.total)
        return int(sum_processes(counts.relevant).sum())

    return work


def score_plainly(folder, rank, world):
    """Rank the same codes in memory, without shards or processes."""
    shards = open_shards([folder / "database"])
    queries = open_queries(folder / "queries.npy", shards)
    blocks = list(shards.blocks(range(len(shards))))
    codes = torch.cat([block.codes for block in blocks])
    relevance = SharedLabel(queries.labels, torch.cat([block.labels for block in blocks]))
    engine = AutoEngine()

    def work():
        found = 0
        for start in range(0, len(queries.codes), 2048):
            some = queries.codes[start : start + 2048]
            part = select_queries(relevance, start, start + len(some))
            found += int(engine.rank(some, codes, shards.distance, part).relevant.sum())
        return found

    return work


def encode_share(folder, rank, world):
    """Encode this worker's part of the shards as a worker of Ray does."""
    rows = open_npy(folder / "x.npy").rows
    out = folder / f"shards-{os.getpid()}"
    task = ShardTask(str(folder / "hasher"), str(folder / "x.npy"), str(out), None, None, None, None, "cpu", BLOCK_ROWS)
    encoder = ShardEncoder(vars(task))
    shards = [(start, min(start + SHARD_ROWS, rows)) for start in range(0, rows, SHARD_ROWS)]
    own = get_share(len(shards), rank, world)

    def work():
        return sum(
            encoder({"shard": shard, "start": shards[shard][0], "stop": shards[shard][1]})["rows"] for shard in own
        )

    return work


def encode_plainly(folder, rank, world):
    hasher = Hasher.load(folder / "hasher")
    source = open_npy(folder / "x.npy")
    place = iter(range(1000))

    def work():
        return encode_file(hasher, source, folder / f"plain-{os.getpid()}-{next(place)}.npy", rows=BLOCK_ROWS).rows

    return work


def fit_share(folder, rank, world):
    features = torch.from_numpy(np.load(folder / "x.npy", mmap_mode="c"))
    rows = get_share(len(features), rank, world, FIT_BLOCK)

    def work():
        hasher = Hasher(ITQ(DIMENSION, BITS, iterations=10), SBQ(BITS))
        if world == 1:
            hasher.fit(features)
        else:
            with row_shares():
                hasher.fit(features[rows.start : rows.stop])
        return round(float(hasher.projection.quantisation_errors[-1]))

    return work


JOBS = {job.__name__: job for job in (score_share, score_plainly, encode_share, encode_plainly, fit_share)}


def run_worker(name, folder, rank, world, meeting):
    """Warm up, start together, and measure the seconds until the last worker ends."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    work = JOBS[name](folder, rank, world)
    work()
    dist.barrier()
    started = time.perf_counter()
    result = work()
    dist.barrier()
    if rank == 0:
        print(json.dumps({"seconds": time.perf_counter() - started, "result": result}))
    dist.destroy_process_group()


def time_job(name, folder, world):
    """Return the seconds of a job on some workers, in separate processes."""
    with tempfile.TemporaryDirectory(dir=folder) as meeting:
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--worker", name, str(folder), str(rank), str(world), f"{meeting}/file"],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(world)
        ]
        answers = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), f"{name} failed"
    return json.loads(answers[0].splitlines()[-1])


def compare(what, folder, one, other, rounds, bar):
    """Compare two jobs, each a name and a number of workers, by the median ratio of their times."""
    ratios, results = [], set()
    for _ in range(rounds):
        first, second = (time_job(*job[:1], folder, job[1]) for job in (one, other))
        ratios.append(first["seconds"] / second["seconds"])
        if one[0].split("_")[0] != "encode":
            results |= {first["result"], second["result"]}
    shown = " ".join(f"{ratio:.2f}" for ratio in sorted(ratios))
    print(f"{what}: {np.median(ratios):.2f} ({shown}); bar {bar}", flush=True)
    if one[0].startswith("score"):
        assert len(results) == 1, "the counts differ"


def main():
    if sys.argv[1:2] == ["--worker"]:
        name, folder, rank, world, meeting = sys.argv[2:]
        return run_worker(name, Path(folder), int(rank), int(world), meeting)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=4_000_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=4 * SHARD_ROWS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments)
        rounds = arguments.rounds
        compare("scoring, one process over two", folder, ("score_share", 1), ("score_share", 2), rounds, ">= 1.8")
        compare("scoring, one of shards over plain", folder, ("score_share", 1), ("score_plainly", 1), rounds, "< 1.15")
        compare("encoding, one worker over two", folder, ("encode_share", 1), ("encode_share", 2), rounds, ">= 1.7")
        compare("encoding, shards over plain", folder, ("encode_share", 1), ("encode_plainly", 1), rounds, "< 1.15")
        compare("fitting ITQ, one process over two", folder, ("fit_share", 1), ("fit_share", 2), rounds, "none")
    return None


if __name__ == "__main__":
    main()
