"""Search of real codes: multi-index hashing and the flat scan against FAISS and USearch, by ratios in one run.

python benchmarks/indexes.py --images cifar10.npz --sizes 100000 1000000 10000000 --queries 200
python benchmarks/indexes.py --images cifar10.npz --sizes 100000 --kinds flat faiss_ivf faiss_hnsw usearch duckdb

The second command prints, for each kind of index with its defaults, the time to build it, the time of a query in a
batch and alone (wall-clock), and recall@10; pgvector uses libpq's environment, such as PGHOST. With `--json
studies/results/indexes.json` the times of all passes are also written as a result file.

Codes are 64-bit ITQ codes of random 12 × 12 patches of CIFAR-10's images (an .npz with `images` uint8 (n, 32, 32,
3)), in any number; queries are further patches. Each time is the minimum of three passes, in processor time if one
thread works, which a busy machine disturbs little. The rivals take turns.
"""

import argparse
import math
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from measurements import result_path, write_measurements
from usearch.index import search as usearch_search

import deephash
from deephash.hashers.hasher import Hasher
from deephash.indexes.flat import Flat
from deephash.indexes.mih import MIH
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ

SIDE = 12
FITTED_PATCHES = 20_000
BLOCK = 50_000
PASSES = 3
# Largest radius of the buckets that FAISS's multi-hash visits around each of its hashes. A radius finds all codes
# within (radius + 1) · hashes - 1 bits; each size gets the smallest radius that reaches every query's k-th neighbour.
MAX_FLIPS = 8
# USearch's exact search stores all distances at once; with 200 queries of 10,000,000 codes the process was killed.
USEARCH_PAIRS = 10**9


def encode_patches(path, count, seed=0, bits=64):
    """Return ITQ codes, uint8 (count, bits / 8), of random patches."""
    images = np.load(path, allow_pickle=False)["images"]
    windows = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    rng = np.random.default_rng(seed)

    def patches(rows):
        item, top, left = (rng.integers(0, size, rows) for size in windows.shape[:3])
        return torch.from_numpy(windows[item, top, left].reshape(rows, -1).astype(np.float32) / 255)

    hasher = Hasher(ITQ(3 * SIDE**2, bits), SBQ(bits)).fit(patches(FITTED_PATCHES))
    blocks = [hasher.encode(patches(min(BLOCK, count - start))) for start in range(0, count, BLOCK)]
    return torch.cat(blocks)


def measure_passes(searches, clock):
    """Return the times of some passes of each search, which take turns: name → list of seconds."""
    times = {name: [] for name in searches}
    for _ in range(PASSES):
        for name, search in searches.items():
            started = clock()
            search()
            times[name].append(clock() - started)
    return times


def measure_least(search, clock):
    """Return the least time of some passes of one search."""
    return min(measure_passes({"": search}, clock)[""])


def list_passes(times, codes, k, queries):
    """Return rows of a result file from the times of passes: milliseconds per query."""
    return [
        {"codes": codes, "k": k, "engine": name, "pass": place, "milliseconds": 1e3 * seconds / queries}
        for name, passes in times.items()
        for place, seconds in enumerate(passes)
    ]


def build_multi_hash(codes, queries, farthest, tables):
    """Build FAISS's multi-hash with this number of hashes and the fewest flips that reach every k-th neighbour."""
    length = 64 // tables
    index = faiss.IndexBinaryMultiHash(64, tables, length)
    index.add(codes.numpy())
    index.nflip = min(MAX_FLIPS, max(0, math.ceil((farthest + 1) / tables) - 1))
    return index


def compare_scans(flat, queries, k, clock, threads):
    """Compare the exact scans of FAISS and USearch with ours, for the k nearest, and return the times of all passes."""
    codes, asked = flat.codes.numpy(), queries.numpy()
    rival = faiss.IndexBinaryFlat(8 * codes.shape[1])
    rival.add(codes)
    scans = {"flat": lambda: flat.search(queries, k), "FAISS": lambda: rival.search(asked, k)}
    if len(codes) * len(asked) <= USEARCH_PAIRS:
        scans["USearch"] = lambda: usearch_search(codes, asked, k, "hamming", exact=True, dtype="b1", threads=threads)
    times = measure_passes(scans, clock)
    seconds = {name: min(passes) / len(queries) for name, passes in times.items()}
    theirs = ", ".join(f"{seconds[name] / seconds['flat']:.1f} × by {name}" for name in scans if name != "flat")
    print(f"{len(codes):>10,}: scan for the {k} nearest {1e3 * seconds['flat']:.3f} ms a query; {theirs}", flush=True)
    return times


def compare_kinds(kinds, database, queries, k):
    """Measure build time, query time and recall of each kind with its defaults, and return them as rows."""
    rows = []
    expected = Flat(database, 64).search(queries, k)[0][:, -1:]
    for kind in kinds:
        if kind != "pgvector":  # Its table would exist already.
            deephash.index(database[:100], kind).search(queries, k)  # Imports packages, and compiles kernels.
        started = time.perf_counter()
        index = deephash.index(database, kind)
        built = time.perf_counter() - started
        found = index.search(queries, k)[0]
        together = measure_least(lambda index=index: index.search(queries, k), time.perf_counter) / len(queries)
        alone = measure_least(
            lambda index=index: [index.search(q, k) for q in queries[:20].split(1)], time.perf_counter
        )
        row = {
            "codes": len(database),
            "k": k,
            "engine": kind,
            "build_seconds": built,
            "milliseconds": 1e3 * together,
            "milliseconds_alone": 1e3 * alone / min(20, len(queries)),
            "recall": float((found <= expected).double().mean()),
        }
        print(
            f"{len(database):>10,}: {kind:<16} built in {built:.2f} s, {row['milliseconds']:.3f} ms a query of "
            f"{len(queries)}, {row['milliseconds_alone']:.3f} ms alone, recall@{k} {row['recall']:.3f}",
            flush=True,
        )
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--faiss-up-to", type=int, default=1_000_000, help="largest size for FAISS's multi-hash")
    parser.add_argument("--scanned", type=int, default=100, help="number of neighbours k in the comparison of scans")
    parser.add_argument("--kinds", nargs="+", default=[], help="compare these kinds instead")
    parser.add_argument("--json", type=result_path, help="result file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    codes = encode_patches(arguments.images, max(arguments.sizes) + arguments.queries)
    queries, k = codes[-arguments.queries :], arguments.k
    measured, rows = [], []
    for size in arguments.sizes:
        database = codes[:size]
        if arguments.kinds:
            rows += compare_kinds(arguments.kinds, database, queries, k)
            continue
        flat, index = Flat(database, 64), MIH(database, 64)
        (expected, expected_ids), (found, ids) = flat.search(queries, k), index.search(queries, k)
        if not (torch.equal(expected, found) and torch.equal(expected_ids, ids)):
            raise SystemExit("multi-index hashing and the scan differ")
        searches = {
            "mih": lambda index=index: index.search(queries, k),
            "flat": lambda flat=flat: flat.search(queries, k),
        }
        if size <= arguments.faiss_up_to:
            rival = build_multi_hash(database, queries, int(expected.max()), index.tables)
            recall = (np.sort(rival.search(queries.numpy(), k)[0], 1) == np.sort(expected.numpy(), 1)).mean()
            searches["FAISS multi-hash"] = lambda rival=rival: rival.search(queries.numpy(), k)
        times = measure_passes(searches, clock)
        seconds = {name: min(passes) / len(queries) for name, passes in times.items()}
        measured.append((size, seconds["mih"]))
        line = (
            f"{size:>10,}: MIH of {index.tables} tables {1e3 * seconds['mih']:.3f} ms a query, "
            f"{seconds['flat'] / seconds['mih']:.1f} × the scan"
        )
        if size <= arguments.faiss_up_to:
            ratio = seconds["FAISS multi-hash"] / seconds["mih"]
            line += f", {ratio:.1f} × FAISS's multi-hash (nflip {rival.nflip}, recall {recall:.3f})"
        print(line, flush=True)
        rows += list_passes(times, size, k, len(queries))
        times = compare_scans(flat, queries, arguments.scanned, clock, arguments.threads)
        rows += list_passes(times, size, arguments.scanned, len(queries))
    if len(measured) > 1:
        (first, start), (last, end) = measured[0], measured[-1]
        print(f"growth from {first:,} to {last:,}: N^{math.log(end / start) / math.log(last / first):.2f}")
    if arguments.json:
        write_measurements(arguments.json, rows, arguments.threads)


if __name__ == "__main__":
    main()
