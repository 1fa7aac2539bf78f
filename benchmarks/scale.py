"""The cost model of docs/scale.md: its table, and its check against measurements with up to 64 simulated shards.

python benchmarks/scale.py plan                          memory, machines, money and latency at 1e8, 1e9 and 1e11
python benchmarks/scale.py check --sizes 100000 1000000 10000000 --shards 1 4 16 64

`check` cuts codes into shards, searches one after another as machines of their own would, and merges. What is simulated
is the waiting: a query of S machines takes the slowest shard's time and the merge. It asserts that distances and ids
are those of one scan, fits the model's constants on all sizes but the largest, and prints what the model says of the
largest beside what was measured. Codes are random around 2,000 centres; one thread; least of three passes.
"""

import argparse
import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from deephash.cluster.shares import share_of
from deephash.indexes.flat import Flat
from deephash.indexes.mih import MIH, usual_tables
from deephash.ranking.nearest_merge import merge_nearest

BITS, K, PASSES = 64, 100, 3
CENTRES, FLIPPED = 2_000, 0.08
# In a smaller shard the hundredth neighbour is far, and tables look through most of it.
LEAST_ITEMS = 200_000

# Measured: docs/indexes.md (CPU, one thread of an AMD EPYC) and README.md (H100, 10,000 queries at a time).
SCAN_A_CORE = 2.2e9  # distances a second
SCAN_A_GPU = 1.5e11
METRICS_A_GPU = 1.9e11
MIH_SECONDS, MIH_AT, MIH_EXPONENT = 1.35e-4, 1e7, 0.44
# Assumed: set these to your own.
NETWORK_BYTES, ROUND_TRIP = 1.25e9, 5e-4  # 10 Gbit/s a machine; seconds between machines
CORE_HOUR, GIB_HOUR, GPU_HOUR = 0.04, 0.005, 2.5  # dollars
GPU_BYTES, CORES, MACHINE_BYTES = 70e9, 32, 200e9  # of a GPU, and of a machine without one, that codes may take


@dataclass(frozen=True)
class Plan:
    """What a design takes for one database.

    Args:
        design: flat on CPUs, flat on GPUs, or MIH.
        memory: bytes, of one replica.
        machines: or GPUs.
        latency: seconds of one query, its work spread over all.
        throughput: queries a second of all machines.
        hourly: dollars.
    """

    design: str
    memory: float
    machines: int
    latency: float
    throughput: float
    hourly: float


def reply_seconds(shards, k=K):
    """Time until the replies of all shards are in: distances and ids of k neighbours each, 16 bytes, over one cable."""
    return ROUND_TRIP + shards * k * 16 / NETWORK_BYTES


def mih_bytes(n):
    """Bytes an item of multi-index hashing: code and name, and a copy of the code and an id in each table."""
    return 16 + 12 * usual_tables(BITS, int(n))


def plans(n):
    """Flat scans and multi-index hashing of n items, on as many machines as their memory asks for."""
    gpus = math.ceil(n * 8 / GPU_BYTES)
    seconds = n / SCAN_A_GPU / gpus
    yield Plan("flat, GPUs", n * 8, gpus, seconds + reply_seconds(gpus), 1 / seconds, gpus * GPU_HOUR)
    memory = n * 16
    machines = math.ceil(memory / MACHINE_BYTES)
    seconds = n / SCAN_A_CORE / (machines * CORES)
    hourly = machines * CORES * CORE_HOUR + memory / 2**30 * GIB_HOUR
    yield Plan("flat, CPUs", memory, machines, seconds + reply_seconds(machines), 1 / seconds, hourly)
    shards = max(1, math.ceil(n * 60 / MACHINE_BYTES), math.ceil(n / (2**31 - 1)))
    memory = n * mih_bytes(n / shards)
    work = MIH_SECONDS * (n / shards / MIH_AT) ** MIH_EXPONENT
    hourly = shards * CORES * CORE_HOUR + memory / 2**30 * GIB_HOUR
    yield Plan("MIH", memory, shards, work + reply_seconds(shards), CORES / work, hourly)


def plan():
    heads = ("items", "design", "memory", "machines or GPUs", "a query alone", "queries a second", "$ an hour",
             "$ a million queries")  # fmt: skip
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|")
    for n in (1e8, 1e9, 1e11):
        for one in plans(n):
            cells = (f"{n:.0e}", one.design, f"{one.memory / 1e9:,.1f} GB", f"{one.machines}",
                     f"{1e3 * one.latency:,.1f} ms", f"{one.throughput:,.0f}", f"{one.hourly:,.2f}",
                     f"{one.hourly / 3600 / one.throughput * 1e6:,.3f}")  # fmt: skip
            print("| " + " | ".join(cells) + " |")
    for n in (1e8, 1e9, 1e11):
        gpus = math.ceil(n * 8 / GPU_BYTES)
        print(
            f"exact metrics of 10,000 queries against {n:.0e}: {1e4 * n / METRICS_A_GPU / gpus:,.0f} s on {gpus} GPUs"
        )


def clustered_codes(n, seed):
    """Codes uint8 (n, 8) around centres that all seeds share, each bit flipped with some probability."""
    centres = np.random.default_rng(0).random((CENTRES, BITS)) < 0.5
    draw = np.random.default_rng([1, seed])
    codes = np.empty((n, BITS // 8), np.uint8)
    for first in range(0, n, 1 << 18):
        count = min(1 << 18, n - first)
        bits = centres[draw.integers(0, CENTRES, count)] ^ (draw.random((count, BITS), np.float32) < FLIPPED)
        codes[first : first + count] = np.packbits(bits, 1, bitorder="little")
    return torch.from_numpy(codes)


def least_seconds(work):
    times = []
    for _ in range(PASSES):
        started = time.process_time()
        result = work()
        times.append(time.process_time() - started)
    return min(times), result


def measured(codes, queries, shards, kind):
    """Seconds a query of the slowest shard, of all shards together and of the merge; and what was found."""
    found, times = [], []
    for shard in range(shards):
        rows = share_of(len(codes), shard, shards)
        index = kind(codes[rows.start : rows.stop], BITS)
        seconds, (near, ids) = least_seconds(lambda index=index: index.search(queries, min(K, len(index))))
        times.append(seconds / len(queries))
        found.append((near, ids + rows.start))
    merging, merged = least_seconds(lambda: merge_nearest([one for one, _ in found], [ids for _, ids in found], K))
    return max(times), sum(times), merging / len(queries), merged


def check(sizes, shard_counts, queries_asked):
    torch.set_num_threads(1)
    queries = clustered_codes(queries_asked, seed=1)
    everything = clustered_codes(max(sizes), seed=2)
    rows = []
    print("items      kind  shards  slowest shard   all shards     merge   (ms a query)")
    for n in sizes:
        codes = everything[:n]
        truth = Flat(codes, BITS).search(queries, K)
        for kind in (Flat, MIH):
            for shards in shard_counts:
                slowest, together, merging, merged = measured(codes, queries, shards, kind)
                assert torch.equal(merged[0], truth[0]), "distances differ from one scan's"
                assert torch.equal(merged[1], truth[1]), "ids differ from one scan's"
                rows.append((n, kind.__name__, shards, slowest, together, merging))
                print(
                    f"{n:<10} {kind.__name__:<5} {shards:<6} {1e3 * slowest:10.4f} {1e3 * together:14.4f} "
                    f"{1e3 * merging:10.4f}",
                    flush=True,
                )
    compare(rows, sizes)


def compare(rows, sizes):
    """What the model, fitted on the smaller sizes, says of the slowest shard at the largest size."""
    print("\nthe slowest shard at the largest size, by constants fitted on all smaller sizes:")
    for kind, says in (("Flat", affine), ("MIH", power_law)):
        known = [(n / shards, slowest) for n, name, shards, slowest, *_ in rows if name == kind and n < sizes[-1]]
        model, words = says(*np.array(known).T)
        print(f"{kind}: {words}")
        for n, name, shards, slowest, *_ in rows:
            if name == kind and n == sizes[-1]:
                said = model(n / shards)
                ratio = said / slowest
                print(f"  {shards:>3} shards: model {1e3 * said:.4f} ms, measured {1e3 * slowest:.4f} ms, {ratio:.2f}")


def affine(items, seconds):
    """A scan: so much a query, and so much an item. Relative errors count alike, whatever the size."""
    design = np.stack([1 / seconds, items / seconds], 1)
    (once, each), *_ = np.linalg.lstsq(design, np.ones(len(items)), rcond=None)
    return lambda n: once + each * n, f"{1e3 * once:.4f} ms a query and shard, {1 / each:.2e} distances a second"


def power_law(items, seconds):
    """Tables: a power of the items, of shards large enough that all neighbours are near."""
    large = items >= LEAST_ITEMS
    if large.sum() < 2:
        return lambda n: math.nan, f"fewer than two shards of {LEAST_ITEMS:,} items to fit on"
    exponent, offset = np.polyfit(np.log(items[large]), np.log(seconds[large]), 1)
    return lambda n: math.exp(offset) * n**exponent, f"seconds grow as (items a shard)^{exponent:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "check"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--queries", type=int, default=64)
    arguments = parser.parse_args()
    if arguments.what == "plan":
        plan()
    else:
        check(sorted(arguments.sizes), arguments.shards, arguments.queries)


if __name__ == "__main__":
    main()
