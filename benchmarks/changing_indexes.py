"""Indexes that change: durable adds, searches meanwhile, after half of the items are replaced, and with filters.

python benchmarks/changing_indexes.py --images cifar10.npz --size 1000000

Codes are 64-bit ITQ codes of random image patches, as in `indexes.py`. Every comparison is a ratio of searches that
take turns in one run: the least of several passes each, in processor time of one thread. The parts are: `adds`, in
batches with a flush to the disk for each (wall-clock, in turns with flushes of as many bytes alone, the lower bound),
and the queries between the batches; `during`, single queries in one thread while another one adds batches (wall-clock,
in turns with a writer that rests); `churn`, searches after
half of the items have been removed and as many added, before and after `compact`, both against a new index of the same
items; and `filters` that select a share of the items, against a scan of a copy of the selected codes.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from indexes import encode_patches
from measurements import result_path, write_measurements

import deephash
from deephash.indexes.flat import Flat

PASSES = 9
TURNS = 3
SHARES = (0.9, 0.5, 0.2, 0.1, 0.01, 0.001)
PARTS = ("adds", "during", "churn", "filters")


def compare(searches):
    """Return the least processor time of some passes of each search, which take turns: name → seconds."""
    times = {name: [] for name in searches}
    for turn in range(PASSES + 1):
        for name, search in searches.items():
            started = time.process_time()
            search()
            if turn:  # The first pass compiles kernels.
                times[name].append(time.process_time() - started)
    return {name: min(passes) for name, passes in times.items()}


def measure_flush(file, size):
    """Return the seconds of appending a record of a size to a file and flushing it, without an index."""
    began = time.perf_counter()
    file.write(bytes(size))
    os.fdatasync(file.fileno())
    return time.perf_counter() - began


def measure_adds(kind, codes, start, batch, queries, k, folder):
    """Add codes in batches to a saved index of the first ones, and search after every tenth batch."""
    names = np.arange(len(codes)) * 7
    deephash.index(codes[:start], kind, names=names[:start]).save(folder)
    searched, walls, bare, processor = [], [], [], 0.0
    record = batch * (codes.shape[1] + names.itemsize) + 100
    with deephash.open_index(folder) as index, (folder.parent / "bare").open("wb", buffering=0) as file:
        index.search(queries, k)
        for first in range(start, len(codes), batch):
            bare.append(measure_flush(file, record))
            began, worked = time.perf_counter(), time.process_time()
            index.add(codes[first : first + batch], names=names[first : first + batch])
            walls.append(time.perf_counter() - began)
            processor += time.process_time() - worked
            if first // batch % 10 == 0:
                worked = time.process_time()
                index.search(queries, k)
                searched.append((first + batch, time.process_time() - worked))
        fresh = deephash.index(codes, kind)
        fresh_half = deephash.index(codes[: len(codes) // 2], kind)
        rest = compare(
            {
                "changed": lambda: index.search(queries, k),
                "new": lambda: fresh.search(queries, k),
                "half": lambda: fresh_half.search(queries, k),
            }
        )
    added = len(codes) - start
    near_half = [seconds for size, seconds in searched if abs(size / len(codes) - 0.5) < 0.1]
    print(f"{kind:<5} slowest batch {1e3 * max(walls):.0f} ms, median {1e3 * np.median(walls):.1f} ms", flush=True)
    yield "codes/s added and flushed", added / sum(walls)
    yield "codes/s, if the same bytes are only flushed", added / sum(bare)
    yield "time of the adds, against flushes of the same bytes alone", sum(walls) / sum(bare)
    yield "codes/s added, processor time", added / processor
    yield "queries between adds, against a new index", float(np.median(near_half)) / rest["half"]
    yield "queries after adds, against a new index", rest["changed"] / rest["new"]


def measure_during(kind, codes, start, batch, queries, k, folder):
    """Search in one thread, while another one adds batches and flushes each, and while it rests."""
    deephash.index(codes[:start], kind).save(folder)
    writes, ended, rests = threading.Event(), threading.Event(), threading.Event()
    times = {"rest": [], "writes": []}
    with deephash.open_index(folder) as index:
        index.guard = lock = threading.Lock()

        def write():
            for first in range(start, len(codes), batch):
                if not writes.is_set():
                    rests.set()
                    writes.wait()
                    rests.clear()
                index.add(codes[first : first + batch])
                time.sleep(0.005)  # A writer that never waits would measure the share of the cores that it takes.
            ended.set()
            rests.set()

        writer = threading.Thread(target=write)
        writer.start()
        for asked in [queries[place : place + 1] for place in range(len(queries))] * TURNS:
            index.search(asked, k)  # Compiles kernels, and fills caches.
            if ended.is_set():
                break
            for state, measured in times.items():
                writes.set() if state == "writes" else writes.clear()
                if state == "rest":
                    rests.wait()
                for _ in range(10):
                    began = time.perf_counter()
                    with lock:
                        index.search(asked, k)
                    measured.append(time.perf_counter() - began)
        writes.set()
        writer.join()
    for share, name in ((0.5, "median"), (0.95, "95th percentile")):
        rest, during = (float(np.quantile(times[state], share)) for state in ("rest", "writes"))
        yield f"query during adds, {name}, against rest", during / rest


def measure_churn(kind, codes, batch, queries, k):
    """Replace half of the items in batches, and search."""
    size = 2 * len(codes) // 3
    index = deephash.index(codes[:size], kind)
    gone = np.random.default_rng(0).permutation(size)[: size // 2]
    for first in range(0, len(gone), batch):
        index.remove(gone[first : first + batch])
        index.add(codes[size + first : size + first + batch])
    kept = np.ones(size + len(gone), bool)
    kept[gone] = False
    fresh = deephash.index(codes[: size + len(gone)][torch.from_numpy(kept)], kind)
    for state in ("half of the items replaced", "then compacted"):
        for asked in (queries, queries[:1]):
            seconds = compare(
                {
                    "changed": lambda asked=asked: [index.search(asked, k) for _ in range(100 // len(asked))],
                    "new": lambda asked=asked: [fresh.search(asked, k) for _ in range(100 // len(asked))],
                }
            )
            yield f"{state}, {len(asked)} at a time, against a new index", seconds["changed"] / seconds["new"]
        index.compact()


def measure_filters(kind, codes, queries, k):
    """Search with masks of several shares, against a scan of a copy of the selected codes."""
    index = deephash.index(codes, kind)
    for share in SHARES:
        mask = torch.from_numpy(np.random.default_rng(1).random(len(codes)) < share)
        for asked in (queries, queries[:1]):
            seconds = compare(
                {
                    "filtered": lambda mask=mask, asked=asked: index.search(asked, k, where=mask),
                    "scan": lambda mask=mask, asked=asked: Flat(codes[mask], 64).search(asked, k),
                }
            )
            name = f"filter selects {share}, {len(asked)} at a time, against a scan of these"
            yield name, seconds["filtered"] / seconds["scan"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1_000_000, help="codes to add")
    parser.add_argument("--start", type=int, default=100_000, help="codes before the first add")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", default=["flat", "mih"])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--folder", type=Path, help="folder on the disk to write to")
    parser.add_argument("--json", type=result_path, help="result file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    total = given.start + given.size
    codes = encode_patches(given.images, total + given.queries)
    queries, codes = codes[total:], codes[:total]
    rows = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for kind in given.kinds:
            measures = {
                "adds": measure_adds(kind, codes, given.start, given.batch, queries, given.k, Path(folder) / kind),
                "during": measure_during(
                    kind, codes, given.size // 2, given.batch, queries, given.k, Path(folder) / f"{kind}-during"
                ),
                "churn": measure_churn(kind, codes, given.batch, queries, given.k),
                "filters": measure_filters(kind, codes[: given.size], queries, given.k),
            }
            for part in given.parts:
                for name, value in measures[part]:
                    print(
                        f"{kind:<5} {name}: {value:,.0f}" if value > 1000 else f"{kind:<5} {name}: {value:.2f}",
                        flush=True,
                    )
                    rows.append({"codes": given.size, "kind": kind, "part": part, "measure": name, "value": value})
    if given.json is not None:
        write_measurements(given.json, rows, 1)


if __name__ == "__main__":
    main()
