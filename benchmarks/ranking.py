"""Ranking and metrics against C, NumPy and FAISS: python benchmarks/ranking.py [--run FOLDER] [--json FILE].

1,000 queries × 59,000 items, all rivals interleaved in one process and on the same threads; prints the minimum and the
median of each, and the ratio of the minima. Codes are random (every distance near b/2: many ties), skewed (correlated
bits of clustered items), and, with --run, those of a run of train.py, such as method=itq data=cifar10_gist. The rival
"limit" is a C loop of vector intrinsics which only counts the items within a distance; "byte tables" ranks asymmetric
distances by a table of 256 costs per byte. On a busy machine, --processor-time measures the time of the process on one
thread instead of the elapsed time.
Idle OpenMP threads of torch, FAISS and the C loop sleep here (OMP_WAIT_POLICY=passive). By default they spin and would
take the cores from the rival that runs next. About 3 minutes on 2 cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measurements import result_path, write_measurements
from ranking_rivals import build_faiss_index, compile_histogram, compile_limit, compute_numpy_metrics
from rich.console import Console
from rich.table import Table

from deephash.codes import pack, unpack
from deephash.metrics.average_precision import average_precision
from deephash.metrics.pr_curve import auprc_micro
from deephash.ranking import numba_layout
from deephash.ranking.distance import Asymmetric, Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.numba_vectors import SHUFFLES
from deephash.ranking.relevance import Neighbours, SharedLabel, SharedLabels

QUERIES, ITEMS, CLASSES, K = 1000, 59000, 10, 100
# A full ranking by FAISS takes milliseconds per query, so it is measured on some queries and scaled.
FULL_RANKING_QUERIES = 50
REPETITIONS = 15
# Whether one instruction counts the ones of each byte of a vector (AVX-512 BITALG).
WIDE = numba_layout.FORM == "popcounts"


def required_speed(task, rival, bits):
    """Return the required speed of a task as a multiple of its rival's; None if nothing is required."""
    if task == "top 100" and rival == "FAISS":
        return ({64: 12, 256: 3, 512: 3, 1024: 3} if WIDE else {64: 3, 256: 1.5, 1024: 1.5}).get(bits)
    if task == "top 100":
        return 1 / 1.5 if bits >= 64 else None
    bars = {"histograms": 1 / 1.2, "metrics": 150, "full ranking": 300, "asymmetric": 5}
    return bars.get(task) if bits == 64 else None


def draw_random_codes(bits, queries, items):
    """Draw independent fair bits and labels."""
    generator = torch.Generator().manual_seed(0)
    codes = [pack(torch.rand(n, bits, generator=generator) < 0.5) for n in (queries, items)]
    labels = [torch.randint(0, CLASSES, (n,), generator=generator) for n in (queries, items)]
    return codes, labels


def draw_skewed_codes(bits, queries, items):
    """Draw signs of random directions through clusters in 12 dimensions, one per class: correlated, unbalanced bits."""
    generator = torch.Generator().manual_seed(0)
    centres, directions = torch.randn(CLASSES, 12, generator=generator), torch.randn(12, bits, generator=generator)
    labels = [torch.randint(0, CLASSES, (n,), generator=generator) for n in (queries, items)]
    points = [centres[x] + torch.randn(len(x), 12, generator=generator) for x in labels]
    return [pack(x @ directions + 1 >= 0) for x in points], labels


def encode_run(folder):
    """Encode the queries and the database of a run, and return code length, codes and labels."""
    from deephash.command_line.run_command import register_resolvers
    from deephash.data.protocols.base import Split
    from deephash.hashers.hasher import Hasher
    from deephash.io.run_folder import RunFolder
    from deephash.training.building import build_data

    register_resolvers()
    run = RunFolder(Path(folder))
    run.check_complete()
    data = build_data(run.read_config(), Split.load(run.split))
    data.prepare_data()
    data.setup()
    hasher = Hasher.load(run.hasher)
    if not isinstance(hasher.distance, Hamming) or hasher.bits % 8:
        sys.exit(
            f"{folder} has codes of {hasher.bits} bits under {hasher.distance}; give a run of Hamming codes, b = 8n."
        )
    parts = [data.part(role) for role in ("query", "database")]
    if parts[0].labels is None or parts[0].labels.ndim != 1:
        sys.exit(f"{folder} has no single labels; give a run of labelled data.")
    return hasher.bits, ([hasher.encode(part.features) for part in parts], [part.labels for part in parts])


def measure(tasks, clock, repetitions=REPETITIONS):
    """Measure the minimum and median seconds of each task, in interleaved repetitions after a warm-up."""
    seconds = {name: [] for name in tasks}
    for repetition in range(repetitions + 1):
        for name, task in tasks.items():
            start = clock()
            task()
            if repetition:  # The first compiles and fills the caches.
                seconds[name].append(clock() - start)
    return {name: (min(values), statistics.median(values)) for name, values in seconds.items()}


def scale(times, factor):
    return tuple(value * factor for value in times)


def compare(name, bits, codes, labels, threads, clock, slow_rivals=True):
    """Return a row for each task, with the times of deephash and of the rival."""
    (query_codes, database_codes), (query_labels, database_labels) = codes, labels
    queries, database = query_codes.numpy(), database_codes.numpy()
    engine, distance = NumbaEngine(threads), Hamming(bits)
    same_label = SharedLabel(query_labels, database_labels)
    nothing = Neighbours(
        torch.zeros(len(queries) + 1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), len(database)
    )
    padded, histogram = compile_histogram(bits, threads)
    wide_queries, wide_database = padded(queries), padded(database)
    index = build_faiss_index(database, bits, threads)

    def metrics():
        counts = engine.rank(query_codes, database_codes, distance, same_label)
        return float(average_precision(counts).nanmean()), float(auprc_micro(counts))

    def ours_histogram():
        return engine.rank(query_codes, database_codes, distance, nothing).total

    def search():
        return engine.search(query_codes, database_codes, distance, K)

    np.testing.assert_array_equal(ours_histogram().numpy(), histogram(wide_queries, wide_database))
    distances = search()[0].numpy()
    np.testing.assert_array_equal(distances, index.search(queries, K)[0])
    limit = {}
    if SHUFFLES:  # The C loop needs AVX2.
        count_near = compile_limit(bits, threads)
        limits = np.maximum(distances[:, -1], 1).astype(np.int32)
        near = np.minimum(count_near(queries, database, limits), K)
        np.testing.assert_array_equal(near, (distances < limits[:, None]).sum(1))
        limit = {"limit": lambda: count_near(queries, database, limits)}
    quick = measure(
        {
            "C": lambda: histogram(wide_queries, wide_database),
            "ours": ours_histogram,
            "metrics": metrics,
            "search": search,
            **limit,
            "FAISS": lambda: index.search(queries, K),
        },
        clock,
    )
    rows = [
        *(("top 100", name, quick["search"], quick[name]) for name in limit),
        ("histograms", "C", quick["ours"], quick["C"]),
        ("top 100", "FAISS", quick["search"], quick["FAISS"]),
    ]
    if slow_rivals:
        signs = [unpack(x, bits).numpy().astype(np.float32) * 2 - 1 for x in codes]
        names = [np.eye(int(max(x.max() for x in labels)) + 1, dtype=np.float32)[x.numpy()] for x in labels]
        doubles = [x.astype(np.float64) for x in (*signs, *names)]
        part = queries[:FULL_RANKING_QUERIES]
        slow = measure(
            {
                "float32": lambda: compute_numpy_metrics(*signs, *names),
                "float64": lambda: compute_numpy_metrics(*doubles),
                "FAISS": lambda: index.search(part, len(database)),
                "metrics": metrics,
            },
            clock,
            repetitions=5,
        )
        full = scale(slow["FAISS"], len(queries) / len(part))
        rows += [
            ("metrics", "NumPy float32", slow["metrics"], slow["float32"]),
            ("metrics", "NumPy float64", slow["metrics"], slow["float64"]),
            ("full ranking", "FAISS", slow["metrics"], full),
        ]
        print(
            f"{name}: mAP and AUPRC {metrics()}, by sorting in NumPy {compute_numpy_metrics(*signs, *names)}",
            file=sys.stderr,
        )
    else:
        rows.append(("metrics", "-", quick["metrics"], None))
    return [{"codes": name, "bits": bits, "task": task, "rival": rival, "ours": ours, "theirs": theirs}
            for task, rival, ours, theirs in rows]  # fmt: skip


def compare_asymmetric(threads, clock):
    """Return the rows of asymmetric distances and of items with several labels, at 64 bits."""
    generator = torch.Generator().manual_seed(0)
    (query_codes, database_codes), (query_labels, database_labels) = draw_random_codes(64, QUERIES, ITEMS)
    engine, same_label = NumbaEngine(threads), SharedLabel(query_labels, database_labels)
    distance = Asymmetric.from_margins(torch.randn(QUERIES, 64, generator=generator))
    several = SharedLabels(*(torch.rand(n, 24, generator=generator) < 0.1 for n in (QUERIES, ITEMS)))

    def rank():
        return engine.rank(query_codes, database_codes, distance, same_label).relevant

    def rank_by_tables():
        form, numba_layout.FORM = numba_layout.FORM, "words"
        try:
            return rank()
        finally:
            numba_layout.FORM = form

    np.testing.assert_array_equal(rank().numpy(), rank_by_tables().numpy())
    times = measure(
        {
            "asymmetric": rank,
            "tables": rank_by_tables,
            "labels": lambda: engine.rank(query_codes, database_codes, Hamming(64), several),
        },
        clock,
        repetitions=7,
    )
    return [{"codes": "random", "bits": 64, "task": task, "rival": rival, "ours": ours, "theirs": theirs}
            for task, rival, ours, theirs in (("asymmetric", "byte tables", times["asymmetric"], times["tables"]),
                                              ("several labels", "-", times["labels"], None))]  # fmt: skip


LARGE = """
import resource, time, torch
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
from deephash.codes import pack
from deephash.metrics.average_precision import average_precision
from deephash.metrics.pr_curve import auprc_micro
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.relevance import SharedLabel
imported = peak()
generator = torch.Generator().manual_seed(0)
codes = [torch.randint(0, 256, (n, 8), dtype=torch.uint8, generator=generator) for n in (10**4, 10**6)]
labels = [torch.randint(0, 10, (n,), generator=generator) for n in (10**4, 10**6)]
start, worked = time.perf_counter(), time.process_time()
counts = NumbaEngine().rank(*codes, Hamming(64), SharedLabel(*labels))
average_precision(counts).nanmean(), auprc_micro(counts)
print(time.perf_counter() - start, time.process_time() - worked, imported, peak())
"""

STARTUP = """
import time
start = time.process_time()
import torch
from deephash.ranking.distance import Hamming
from deephash.ranking.numba_engine import NumbaEngine
from deephash.ranking.relevance import SharedLabel
imported = time.process_time()
codes, labels = torch.zeros(1000, 8, dtype=torch.uint8), torch.zeros(1000, dtype=torch.int64)
NumbaEngine().rank(codes, codes, Hamming(64), SharedLabel(labels, labels))
print(imported - start, time.process_time() - imported)
"""


def list_milliseconds(row):
    """Return a row of a result file: minimum and median of deephash and of the rival, in milliseconds."""
    ours, theirs = ([1e3 * x for x in row.get(side) or ()] or [None, None] for side in ("ours", "theirs"))
    described = {"codes": row["codes"], "bits": row["bits"], "task": row["task"], "rival": row.get("rival", "")}
    return described | {
        "milliseconds": ours[0],
        "median": ours[1],
        "rival_milliseconds": theirs[0],
        "rival_median": theirs[1],
    }


def run_in_process(code, **environment):
    """Run code in a separate process and return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="folder of a run of train.py whose codes are measured too")
    parser.add_argument("--json", type=result_path, help="result file to write, such as studies/results/ranking.json")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of deephash and of every rival"
    )
    parser.add_argument("--processor-time", action="store_true", help="measure processor time, on one thread")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    if arguments.processor_time:
        arguments.threads = 1
        torch.set_num_threads(1)
    if os.environ.get("OMP_WAIT_POLICY") != "passive":  # Read when the libraries load, so the process starts again.
        os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
        os.execv(sys.executable, [sys.executable, *sys.argv])

    rows = []
    rows += compare("random", 64, *draw_random_codes(64, QUERIES, ITEMS), arguments.threads, clock)
    if arguments.run:
        bits, codes = encode_run(arguments.run)
        rows += compare("run", bits, *codes, arguments.threads, clock)
    for bits in (16, 32, 64, 128, 256, 512, 1024):
        codes = draw_skewed_codes(bits, QUERIES, ITEMS)
        rows += compare("skewed", bits, *codes, arguments.threads, clock, slow_rivals=False)
    rows += compare_asymmetric(arguments.threads, clock)

    table = Table(
        title=f"{QUERIES:,} queries × {ITEMS:,} items, {arguments.threads} threads; minimum (median) in ms"
        + (" of processor time" if arguments.processor_time else "")
    )
    for column in ("codes", "bits", "task", "deephash", "rival", "its time", "times faster", "bar"):
        table.add_column(column, justify="left" if column in ("codes", "task", "rival") else "right")
    for row in rows:
        row["times_faster"] = row["theirs"][0] / row["ours"][0] if row["theirs"] else None
        row["bar"] = required_speed(row["task"], row["rival"], row["bits"])
        times = [f"{1e3 * x[0]:.1f} ({1e3 * x[1]:.1f})" if x else "" for x in (row["ours"], row["theirs"])]
        ratio = f"{row['times_faster']:.2f}" if row["theirs"] else ""
        table.add_row(row["codes"], str(row["bits"]), row["task"], times[0], row["rival"], times[1], ratio,
                      f"{row['bar']:.2f}" if row["bar"] else "")  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print("NumPy sorts float32 faster than float64; published code has codes of either precision.")
    console.print(f"FAISS's full ranking: measured on {FULL_RANKING_QUERIES} queries and scaled.")

    seconds, worked, imported, peak = run_in_process(LARGE)
    console.print(
        f"10,000 × 1,000,000 × 64 bits, mAP and AUPRC: {seconds:.2f} s (bar: 1.5 s on 2 cores), processor time "
        f"{worked:.2f} s, peak memory {peak:.2f} GB (bar: 1.6 GB), of which imports {imported:.2f} GB"
    )
    with tempfile.TemporaryDirectory() as cache:
        first, second = (run_in_process(STARTUP, NUMBA_CACHE_DIR=cache) for _ in range(2))
    console.print(
        f"First ranking of a process: {first[1]:.2f} s of processor time with nothing cached, {second[1]:.2f} s after "
        f"(imports {second[0]:.2f} s)"
    )
    if arguments.json:
        measured = [list_milliseconds(row) for row in rows]
        single = {"large": worked if arguments.processor_time else seconds, "first ranking": first[1]}
        for task, whole in (single | {"first ranking, cached": second[1]}).items():
            measured.append(list_milliseconds({"codes": "", "bits": 64, "task": task, "ours": (whole, whole)}))
        write_measurements(arguments.json, measured, arguments.threads)


if __name__ == "__main__":
    main()
