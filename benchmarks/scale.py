"""The cost model of docs/scale.md: its constants, its check against measurements, and its tables.

python benchmarks/scale.py measure --images cifar10.npz   constants at up to 1e6 codes, and their prediction at 1e7
python benchmarks/scale.py shards --sizes 100000 1000000 10000000 --shards 1 4 16 64
python benchmarks/scale.py plan --images cifar10.npz      memory, machines, money and latency at 1e8, 1e9 and 1e11

`measure` times the scan, multi-index hashing and FAISS's inverted lists in processor time of one thread, and prints
the constants at the top of this file, which are fitted on all sizes but the largest. `shards` cuts codes into shards,
searches them one after another, merges, asserts that distances and ids equal those of one scan, and prints the
prediction beside the measurement. Parallel machines are simulated: a query takes the time of the slowest shard and of
the merge. Its codes are random around 2,000 centres.

`--codes` reads your own packed 64-bit codes from a file instead of encoding the patches of benchmarks/indexes.py. The
rows must be in random order; the last ones are the queries. `plan` then predicts the cost of your codes.
"""

import argparse
import math
import time
from dataclasses import dataclass

import faiss
import numpy as np
import torch
from cost_model import (
    BITS,
    Sample,
    Uniform,
    collect_work,
    count_kept,
    count_table_bytes,
    fit_seconds,
    predict_work,
    price,
    view_words,
)
from indexes import encode_patches

from deephash.functional.shares import get_share
from deephash.indexes.flat import Flat
from deephash.indexes.mih import MIH, default_tables
from deephash.ranking.nearest_merge import merge_nearest

PASSES, GROUPS = 3, 20
CENTRES, FLIPPED = 2_000, 0.08
SAMPLE, QUERIES = 100_000, 1_000
SIZES = (50_000, 100_000, 300_000, 500_000, 1_000_000, 10_000_000)
MIN_SIZES = (2_000, 10_000, 30_000)  # further sizes of scans, since shards may be small
# Rounds and codes per list for the training of FAISS's centres: few, so that 12,649 centres take minutes.
ROUNDS, CODES_A_LIST = 5, 39
PROBES = 16

# Measured by `measure`: one thread of an AMD EPYC, seconds.
SCAN = (1.37e-6, 1.49e-8, 1 / 2.35e9)  # per query, temporary neighbour and distance
MIH_TIMES = (4.85e-6, 1.18e-7, 8.48e-9, 1.91e-9, 1.98e-8, 4.81e-10)  # in the order of cost_model.price
MIH_BUILD = 5.6e-8  # per code and table
IVF = (3.17e-6, 1.04e-9, 1.14e-9)  # per query, centre, and code in the lists
CROWDING = (2.14, 0.00454)  # relative length of the lists near a query; share of near copies among all codes
# Measured on an H100 (README.md): 100 nearest of 10,000 queries in 1,000,000 codes, and of 1,000 in 59,000.
GPU_CALL, SCAN_A_GPU, METRICS_A_GPU = 8.6e-4, 1.5e11, 1.9e11  # seconds; distances per second
# Assumptions: set your own values.
NETWORK_BYTES, ROUND_TRIP = 1.25e9, 5e-4  # 10 Gbit/s per machine; seconds between machines
CORE_HOUR, GIB_HOUR, GPU_HOUR = 0.04, 0.005, 2.5  # dollars
GPU_BYTES, CORES, MACHINE_BYTES = 70e9, 32, 200e9  # bytes for codes on a GPU; cores of a machine, bytes for codes on it
MEMORY_BANDWIDTH = 2e11  # bytes per second of a machine's memory


@dataclass(frozen=True)
class Plan:
    """Cost of a design for one database.

    Args:
        design: name of the design.
        memory: bytes of one replica.
        machines: number of machines or GPUs.
        latency: seconds of one query whose work is spread over all machines.
        throughput: queries per second of all machines.
        hourly: dollars per hour.
        build: core hours.
        distance: distance of the k-th neighbour within the codes of a machine; NaN if it does not matter.
    """

    design: str
    memory: float
    machines: int
    latency: float
    throughput: float
    hourly: float
    build: float = 0.0
    distance: float = math.nan


def predict_reply(shards, k):
    """Predict the seconds until all shards have replied over one link, with 16 bytes for each of k neighbours."""
    return ROUND_TRIP + shards * k * 16 / NETWORK_BYTES


def price_machines(machines, memory):
    return machines * CORES * CORE_HOUR + memory / 2**30 * GIB_HOUR


def count_scan_work(items, k):
    """Count the work of a scan: one query, temporary neighbours, and distances."""
    return 1, count_kept(items, k), items


def predict_scan(items, k):
    return float(np.dot(count_scan_work(items, k), SCAN))


def predict_mih(sample, items, k):
    """Predict the seconds of each query, float64 (q,), and its work."""
    tables = default_tables(BITS, int(items))
    work = predict_work(sample, items, k, tables)
    return price(work, items, k, tables) @ MIH_TIMES, work


def count_lists(items):
    """Return the number of inverted lists that the kind `faiss_ivf` uses for a large database."""
    return round(4 * math.sqrt(items))


def count_ivf_work(items, crowding):
    """Count the work of inverted lists: one query, centres, and codes in the visited lists.

    Lists near a query are longer than others, and near copies are in one list regardless of the number of lists.
    """
    longer, copies = crowding
    return 1, count_lists(items), longer * PROBES * items / count_lists(items) + copies * items


def plan_gpus(n, k):
    gpus = math.ceil(n * 8 / GPU_BYTES)
    seconds = n / SCAN_A_GPU / gpus
    return Plan("scan, GPUs", n * 8, gpus, GPU_CALL + seconds + predict_reply(gpus, k), 1 / seconds, gpus * GPU_HOUR)


def plan_scan(n, k):
    machines = math.ceil(n * 16 / MACHINE_BYTES)
    seconds = predict_scan(n / machines, k) / CORES
    alone = max(seconds, n / machines * 8 / MEMORY_BANDWIDTH)
    latency = alone + predict_reply(machines, k)
    return Plan("scan, CPUs", n * 16, machines, latency, 1 / seconds, price_machines(machines, n * 16))


def plan_mih(n, k, sample, name):
    shards = math.ceil(max(n * 60 / MACHINE_BYTES, n / (2**31 - 1)))
    tables = default_tables(BITS, int(n / shards))
    memory = n * 16 + shards * count_table_bytes(n / shards, tables)
    seconds, work = predict_mih(sample, n / shards, k)
    latency, hourly = seconds.mean() + predict_reply(shards, k), price_machines(shards, memory)
    build, name = n * tables * MIH_BUILD / 3600, f"MIH, {name}, k = {k}"
    return Plan(name, memory, shards, latency, CORES / seconds.mean(), hourly, build, work.distance.mean())


def plan_ivf(n, k):
    shards = math.ceil(n * 16 / MACHINE_BYTES)
    each = n / shards
    memory = n * 16 + shards * count_lists(each) * 8
    seconds = float(np.dot(count_ivf_work(each, CROWDING), IVF))
    latency, hourly = seconds + predict_reply(shards, k), price_machines(shards, memory)
    return Plan("IVF", memory, shards, latency, CORES / seconds, hourly, n * count_lists(each) * IVF[1] / 3600)


def print_row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_heads(*heads):
    print_row(*heads)
    print_row(*["---"] * len(heads))


def print_plan(sample):
    kinds = {"these codes": sample, "random codes": Uniform()}
    print_heads("items of one index", "codes", "free bits, median", "distance of the tenth neighbour", "buckets",
                "candidates", "ms", "slowest 1 %, ms", "scan, ms")  # fmt: skip
    for name, codes in kinds.items():
        for items in (1e5, 1e6, 1e7, 1e8, 1e9, 2**31 - 1):
            seconds, work = predict_mih(codes, items, 10)
            cells = (f"{np.median(codes.free_bits):.0f}", f"{work.distance.mean():.1f}", f"{work.buckets.mean():,.0f}",
                     f"{work.candidates.mean():,.0f}", f"{1e3 * seconds.mean():.2f}",
                     f"{1e3 * np.quantile(seconds, 0.99):.2f}", f"{1e3 * predict_scan(items, 10):,.2f}")  # fmt: skip
            print_row(f"{items:.1e}", name, *cells)
    print_heads("items", "design", "memory", "machines or GPUs", "a query alone", "queries a second", "$ an hour",
                "$ a million queries", "build, core hours", "k-th distance")  # fmt: skip
    for n in (1e8, 1e9, 1e11):
        indexes = [plan_mih(n, k, codes, name) for name, codes in kinds.items() for k in (10, 100)]
        for one in (plan_gpus(n, 10), plan_scan(n, 10), *indexes, plan_ivf(n, 10)):
            cells = (f"{one.memory / 1e9:,.1f} GB", f"{one.machines}", f"{1e3 * one.latency:,.1f} ms",
                     f"{one.throughput:,.0f}", f"{one.hourly:,.2f}", f"{one.hourly / 3600 / one.throughput * 1e6:,.3f}",
                     f"{one.build:,.2f}", "" if math.isnan(one.distance) else f"{one.distance:.1f}")  # fmt: skip
            print_row(f"{n:.0e}", one.design, *cells)
    for n in (1e8, 1e9, 1e11):
        gpus = math.ceil(n * 8 / GPU_BYTES)
        seconds = 1e4 * n / METRICS_A_GPU / gpus
        print(f"exact metrics of 10,000 queries against {n:.0e}: {seconds:,.0f} s on {gpus} GPUs")


def draw_clustered_codes(n, seed):
    """Draw codes uint8 (n, 8) around centres that all seeds share, with each bit flipped with some probability."""
    centres = np.random.default_rng(0).random((CENTRES, BITS)) < 0.5
    draw = np.random.default_rng([1, seed])
    codes = np.empty((n, BITS // 8), np.uint8)
    for first in range(0, n, 1 << 18):
        count = min(1 << 18, n - first)
        bits = centres[draw.integers(0, CENTRES, count)] ^ (draw.random((count, BITS), np.float32) < FLIPPED)
        codes[first : first + count] = np.packbits(bits, 1, bitorder="little")
    return torch.from_numpy(codes)


def measure_least(searches):
    """Measure the least processor time of each search over some passes.

    A pass runs all searches, so that none finds its own data in the caches.
    """
    least = np.full(len(searches), np.inf)
    for _ in range(PASSES):
        for place, search in enumerate(searches):
            started = time.process_time()
            search()
            least[place] = min(least[place], time.process_time() - started)
    return least


def time_groups(index, queries, groups, k):
    """Measure the seconds per query of each group of queries."""
    asked = [queries[group] for group in groups]
    return measure_least([lambda one=one: index.search(one, k) for one in asked]) / [len(one) for one in asked]


def time_once(build):
    started = time.process_time()
    built = build()
    return time.process_time() - started, built


def measure_scan(codes, queries, sizes):
    asked = [(n, k) for n in (*MIN_SIZES, *sizes) for k in (10, 100)]
    work = np.array([count_scan_work(n, k) for n, k in asked])
    seconds = np.array([time_groups(Flat(codes[:n], BITS), queries, [slice(None)], k)[0] for n, k in asked])
    known = work[:, 2] < sizes[-1]
    times = fit_seconds(work[known], seconds[known])
    print(f"SCAN = ({times[0]:.3g}, {times[1]:.3g}, 1 / {1 / times[2]:.3g})")
    print_heads("scan of", "k", "ms measured", "predicted", "ratio")
    for (n, k), measured, predicted in zip(asked, seconds, work @ times, strict=True):
        print_row(f"{n:.0e}", k, f"{1e3 * measured:.3f}", f"{1e3 * predicted:.3f}", f"{predicted / measured:.2f}")


def measure_mih(codes, queries, sizes, sample):
    work, seconds, rows, builds = [], [], [], []
    for n in sizes:
        build, index = time_once(lambda n=n: MIH(codes[:n], BITS))
        builds.append((n * index.tables, build))
        for k in (10, 100):
            distances = index.search(queries, k)[0][:, -1].numpy()
            done = collect_work(distances, index.looked_at)
            groups = np.array_split(np.argsort(distances, kind="stable"), GROUPS)
            times = time_groups(index, queries, groups, k)
            if n < sizes[-1]:
                work += [price(done, n, k, index.tables)[group].mean(0) for group in groups]
                seconds += list(times)
            rows.append((n, k, index.tables, done, times.mean()))
    times = fit_seconds(work, seconds)
    print("MIH_TIMES = (" + ", ".join(f"{one:.3g}" for one in times) + ")")
    print(f"MIH_BUILD = {builds[-1][1] / builds[-1][0]:.3g}")
    print_heads("multi-index hashing of", "k", "tables", "k-th distance", "predicted", "buckets", "predicted",
                "candidates", "predicted", "ms measured", "predicted", "ratio")  # fmt: skip
    for n, k, tables, done, measured in rows:
        expected = predict_work(sample, n, k, tables)
        predicted = (price(expected, n, k, tables) @ times).mean()
        pairs = [f"{one.mean():,.{places}f}" for name, places in (("distance", 1), ("buckets", 0), ("candidates", 0))
                 for one in (getattr(done, name), getattr(expected, name))]  # fmt: skip
        print_row(
            f"{n:.0e}",
            k,
            tables,
            *pairs,
            f"{1e3 * measured:.3f}",
            f"{1e3 * predicted:.3f}",
            f"{predicted / measured:.2f}",
        )


def measure_ivf(codes, queries, sizes):
    asked, rows = queries.numpy(), []
    for n in sizes:
        database, lists = codes[:n].numpy(), count_lists(n)
        index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(BITS), BITS, lists)
        index.cp.niter, index.cp.max_points_per_centroid = ROUNDS, CODES_A_LIST
        index.train(database)
        adding, _ = time_once(lambda index=index, database=database: index.add(database))
        truth = Flat(codes[:n], BITS).search(queries, 10)[0][:, -1:].numpy()
        recalls = []
        for index.nprobe in (4, 64, PROBES):
            faiss.cvar.indexIVF_stats.reset()
            recalls.append((index.search(asked, 10)[0] <= truth).mean())
            scanned = faiss.cvar.indexIVF_stats.ndis / len(queries)
        seconds = measure_least([lambda index=index: index.search(asked, 10)])[0] / len(queries)
        rows.append((n, lists, recalls, scanned, seconds))
    compare_ivf(rows, adding / sizes[-1] / count_lists(sizes[-1]))


def compare_ivf(rows, centre):
    """Fit the constants to all rows but the last, given the cost of a centre, and print the prediction for each row."""
    items, lists, recalls, scanned, seconds = (np.array(column) for column in zip(*rows, strict=True))
    crowding = fit_seconds(np.stack([PROBES * items / lists, items], 1)[:-1], scanned[:-1])
    searching = seconds - centre * lists
    once, code = fit_seconds(np.stack([np.ones(len(items)), scanned], 1)[:-1], searching[:-1])
    times = once, centre, code
    print("IVF = (" + ", ".join(f"{one:.3g}" for one in times) + ")")
    print("CROWDING = (" + ", ".join(f"{one:.3g}" for one in crowding) + ")")
    print_heads("IVF of", "lists", "recall@10 at 4, 16 and 64 probes", "codes looked at", "predicted", "ms measured",
                "predicted", "ratio")  # fmt: skip
    for n, count, (few, many, usual), looked, measured in zip(items, lists, recalls, scanned, seconds, strict=True):
        work = count_ivf_work(n, crowding)
        predicted = np.dot(work, times)
        print_row(f"{n:.0e}", count, f"{few:.3f}, {usual:.3f}, {many:.3f}", f"{looked:,.0f}", f"{work[-1]:,.0f}",
                  f"{1e3 * measured:.3f}", f"{1e3 * predicted:.3f}", f"{predicted / measured:.2f}")  # fmt: skip


def search_shards(codes, queries, shards, kind, k):
    """Return seconds per query of the slowest shard, of all shards together and of the merge, and the merged result."""
    found, times = [], []
    for shard in range(shards):
        rows = get_share(len(codes), shard, shards)
        index = kind(codes[rows.start : rows.stop], BITS)
        near, ids = index.search(queries, k)
        found.append((near, ids + rows.start))
        times.append(time_groups(index, queries, [slice(None)], k)[0])
    near, ids = zip(*found, strict=True)
    merging = measure_least([lambda: merge_nearest(list(near), list(ids), k)])[0]
    return max(times), sum(times), merging / len(queries), merge_nearest(list(near), list(ids), k)


def check_shards(sizes, shard_counts, asked, k):
    queries, everything = draw_clustered_codes(asked, seed=1), draw_clustered_codes(max(sizes), seed=2)
    sample = Sample(view_words(everything[:SAMPLE].numpy()), view_words(queries.numpy()))
    print_heads("items", "index", "shards", "slowest shard, ms", "predicted", "ratio", "all shards, ms", "merge, ms")
    for n in sizes:
        truth = Flat(everything[:n], BITS).search(queries, k)
        for kind in (Flat, MIH):
            for shards in shard_counts:
                slowest, together, merging, merged = search_shards(everything[:n], queries, shards, kind, k)
                assert torch.equal(merged[0], truth[0]), "distances differ from one scan's"
                assert torch.equal(merged[1], truth[1]), "ids differ from one scan's"
                each = n / shards
                predicted = predict_scan(each, k) if kind is Flat else predict_mih(sample, each, k)[0].mean()
                print_row(f"{n:.0e}", kind.__name__, shards, f"{1e3 * slowest:.3f}", f"{1e3 * predicted:.3f}",
                          f"{predicted / slowest:.2f}", f"{1e3 * together:.3f}", f"{1e3 * merging:.3f}")  # fmt: skip


def read_codes(arguments, count):
    """Return codes and queries, from a file or of patches of images."""
    if arguments.codes:
        codes = torch.from_numpy(np.load(arguments.codes, allow_pickle=False))
    else:
        codes = encode_patches(arguments.images, count + QUERIES)
    return codes[:-QUERIES], codes[-QUERIES:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "shards", "plan"))
    parser.add_argument("--images", help=".npz of images, as for benchmarks/indexes.py")
    parser.add_argument("--codes", help=".npy of packed codes, uint8 (n, 8)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--kinds", nargs="+", default=["scan", "mih", "ivf"], help="kinds that `measure` measures")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--queries", type=int, default=256, help="number of queries for `shards`")
    parser.add_argument("--k", type=int, default=100, help="number of neighbours for `shards`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    sizes = sorted(arguments.sizes)
    if arguments.what == "shards":
        check_shards(sizes, arguments.shards, arguments.queries, arguments.k)
        return
    if not (arguments.codes or arguments.images):
        parser.error("give --codes or --images")
    codes, queries = read_codes(arguments, SAMPLE if arguments.what == "plan" else sizes[-1])
    sample = Sample(view_words(codes[:SAMPLE].numpy()), view_words(queries.numpy()))
    if arguments.what == "plan":
        print_plan(sample)
        return
    if "scan" in arguments.kinds:
        measure_scan(codes, queries, sizes)
    if "mih" in arguments.kinds:
        measure_mih(codes, queries, sizes, sample)
    if "ivf" in arguments.kinds:
        measure_ivf(codes, queries, sizes)


if __name__ == "__main__":
    main()
