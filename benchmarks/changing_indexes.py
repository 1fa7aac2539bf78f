"""Indexes that change: durable adds, searches meanwhile, after half of the items are replaced, and with filters.

python benchmarks/changing_indexes.py --images cifar10.npz
python benchmarks/changing_indexes.py --images cifar10.npz --parts churn during --bits 64 256 --sizes 100000 1000000

Codes are ITQ codes of random image patches, as in `indexes.py`. Every comparison is a ratio of searches that take turns
in one run: the least of several passes each, in processor time of one thread. The parts are:

- `adds`: codes are added in batches, with a flush to the disk for each (wall-clock, in turns with flushes of as many
  bytes alone, the lower bound) and in memory, with queries between the batches;
- `churn`: searches after half of the items have been removed and as many added, in several orders, against a new index
  of the same items. Removed rows and later codes are dropped or merged from time to time, so searches are measured at
  several moments, between which further items are replaced;
- `during`: single queries in one thread while another one adds batches in memory (wall-clock, in turns with a writer
  that rests);
- `filters` that select a share of the items, against a scan of a copy of the selected codes.
"""

import argparse
import os
import tempfile
import threading
import time
from itertools import product
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
ORDERS = ("in turns", "removed first", "added first")
# Shares of the items that are replaced before each moment; removed rows are dropped at 2 or 3 % of all rows.
REPLACED = (0.5, 0.017, 0.017)


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
    in_memory = deephash.index(codes[:start], kind)
    worked = time.process_time()
    for first in range(start, len(codes), batch):
        in_memory.add(codes[first : first + batch])
    yield "codes/s added in memory, processor time", (len(codes) - start) / (time.process_time() - worked)
    del in_memory
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
    yield "codes/s added and flushed, processor time", added / processor
    yield "queries between adds, against a new index", float(np.median(near_half)) / rest["half"]
    yield "queries after adds, against a new index", rest["changed"] / rest["new"]


def list_single(queries):
    """Return the queries one by one."""
    return [queries[place : place + 1] for place in range(len(queries))]


def measure_during(kind, codes, start, batch, queries, k):
    """Search in one thread, while another one adds batches, and while it rests."""
    writes, ended, rests = threading.Event(), threading.Event(), threading.Event()
    times = {"rest": [], "writes": []}
    index = deephash.index(codes[:start], kind)
    index.guard = lock = threading.Lock()
    compiled = deephash.index(codes[:start], kind)
    compiled.add(codes[start : start + batch])
    compiled.compact()

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
    for asked in list_single(queries) * TURNS:
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
    print(f"{kind:<5} slowest query during adds {1e3 * max(times['writes']):.0f} ms", flush=True)
    rest, during = (np.array(times[state]) for state in ("rest", "writes"))
    yield "query during adds, median, against rest", np.median(during) / np.median(rest)
    yield "query during adds, mean, against rest", during.mean() / rest.mean()
    yield "query during adds, 95th percentile, against rest", np.quantile(during, 0.95) / np.quantile(rest, 0.95)


def replace_items(index, codes, order, batch, rng):
    """Remove as many random items as there are codes, and add the codes, in batches and in an order of `ORDERS`."""
    gone = rng.permutation(index.ids.numpy())[: len(codes)]
    removals = [lambda part=part: index.remove(part) for part in np.split(gone, range(batch, len(gone), batch))]
    adds = [lambda part=part: index.add(part) for part in codes.split(batch)]
    if order == "in turns":
        changes = [change for pair in zip(removals, adds, strict=True) for change in pair]
    else:
        changes = removals + adds if order == "removed first" else adds + removals
    for change in changes:
        change()


def measure_churn(kind, codes, size, batch, queries, k):
    """Replace half of the items, and then some more, and search."""
    rng = np.random.default_rng(0)
    ratios = {f"{len(queries)} at a time": [], "1 at a time": []}
    for order in ORDERS:
        index, used = deephash.index(codes[:size], kind), size
        for share in REPLACED:
            more = codes[used : used + int(share * size)]
            used += len(more)
            replace_items(index, more, order, batch, rng)
            fresh = deephash.index(index.item_codes, kind)
            for name, asked in zip(ratios, ([queries], list_single(queries)), strict=True):
                seconds = compare(
                    {
                        "changed": lambda asked=asked, index=index: [index.search(each, k) for each in asked],
                        "new": lambda asked=asked, fresh=fresh: [fresh.search(each, k) for each in asked],
                    }
                )
                ratios[name].append(seconds["changed"] / seconds["new"])
    for name, found in ratios.items():
        yield f"half of the items replaced, {name}, against a new index, mean", float(np.mean(found))
        yield f"half of the items replaced, {name}, against a new index, slowest", max(found)


def measure_filters(kind, codes, queries, k):
    """Search with masks of several shares, against a scan of a copy of the selected codes."""
    index = deephash.index(codes, kind)
    for share in SHARES:
        mask = torch.from_numpy(np.random.default_rng(1).random(len(codes)) < share)
        for asked in (queries, queries[:1]):
            seconds = compare(
                {
                    "filtered": lambda mask=mask, asked=asked: index.search(asked, k, where=mask),
                    "scan": lambda mask=mask, asked=asked: Flat(codes[mask], index.bits).search(asked, k),
                }
            )
            name = f"filter selects {share}, {len(asked)} at a time, against a scan of these"
            yield name, seconds["filtered"] / seconds["scan"]


def measure_part(part, kind, drawn, size, folder, given):
    """Yield names and values of the measures of a part; the last of the drawn codes are queries."""
    queries, codes = drawn[len(drawn) - given.queries :], drawn[: len(drawn) - given.queries]
    if part == "adds":
        return measure_adds(kind, codes[: size + size // 10], size // 10, given.batch, queries, given.k, folder / kind)
    if part == "during":
        return measure_during(kind, codes[: size + size // 2], size, given.batch, queries, given.k)
    if part == "churn":
        return measure_churn(kind, codes, size, given.batch, queries, given.k)
    return measure_filters(kind, codes[:size], queries, given.k)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000], help="numbers of codes")
    parser.add_argument("--bits", type=int, nargs="+", default=[64], help="code lengths")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", default=["flat", "mih"])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--folder", type=Path, help="folder on the disk to write to")
    parser.add_argument("--json", type=result_path, help="result file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for bits in given.bits:
        # Of the largest index that is changed, and of those that replace half of it and some more.
        total = int(max(given.sizes) * (1 + sum(REPLACED))) + 1
        drawn = encode_patches(given.images, total + given.queries, bits=bits)
        for size, kind, part in product(given.sizes, given.kinds, given.parts):
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                for name, value in measure_part(part, kind, drawn, size, Path(folder), given):
                    figure = f"{value:,.0f}" if value > 1000 else f"{value:.2f}"
                    print(f"{bits:>4} bits {size:>9,} {kind:<5} {name}: {figure}", flush=True)
                    rows.append(
                        {"codes": size, "bits": bits, "kind": kind, "part": part, "measure": name, "value": value}
                    )
    if given.json is not None:
        write_measurements(given.json, rows, 1)


if __name__ == "__main__":
    main()
