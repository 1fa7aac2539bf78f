"""Indexes that change: durable adds, searches meanwhile, after half of the items are replaced, and with filters.

python benchmarks/changing_indexes.py --images cifar10.npz --size 1000000

Codes are 64-bit ITQ codes of random image patches, as in `indexes.py`. Every comparison is a ratio within the run;
times are wall-clock, the medians of several passes. The parts: (1) adds in batches with a flush to the disk for each,
and queries between the batches, against the same queries of a fresh index at rest; (2) searches after half of the items
have been removed and as many added, before and after `compact`, against a fresh index of the same items; (3) filters
that select a share of the items, against a scan of the selected codes.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from indexes import encode_patches

import deephash
from deephash.indexes.flat import Flat

PASSES = 7
SHARES = (0.9, 0.5, 0.2, 0.1, 0.01, 0.001)


def median_seconds(search, passes=PASSES):
    """Return the median time of some passes, after one that compiles kernels."""
    search()
    times = []
    for _ in range(passes):
        started = time.perf_counter()
        search()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def measure_adds(kind, codes, start, batch, queries, k, folder):
    """Add codes in batches to a saved index of the first ones; search after every tenth batch."""
    names = np.arange(len(codes)) * 7
    deephash.index(codes[:start], kind, names=names[:start]).save(folder)
    with deephash.open_index(folder) as index:
        index.search(queries, k)
        index.add(codes[start : start + batch], names=names[start : start + batch])
        seconds, searched, worst, added = 0.0, [], 0.0, 0
        for first in range(start + batch, len(codes), batch):
            began = time.perf_counter()
            index.add(codes[first : first + batch], names=names[first : first + batch])
            took = time.perf_counter() - began
            seconds, worst, added = seconds + took, max(worst, took), added + len(codes[first : first + batch])
            if first // batch % 10 == 0:
                began = time.perf_counter()
                index.search(queries, k)
                searched.append(time.perf_counter() - began)
        last = median_seconds(lambda: index.search(queries, k))
    fresh = deephash.index(codes, kind)
    rest = median_seconds(lambda: fresh.search(queries, k))
    print(
        f"{kind:<5} {added:,} adds of {batch:,}, each flushed: {added / seconds:,.0f} codes/s, slowest batch "
        f"{1e3 * worst:.0f} ms; {len(queries)} queries between: {np.median(searched) / rest:.2f} × (largest "
        f"{max(searched) / rest:.2f} ×), at the end {last / rest:.2f} × those of a fresh index",
        flush=True,
    )


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
    for asked, what in ((queries, f"{len(queries)} queries"), (queries[:1], "one query")):
        rest = median_seconds(lambda asked=asked: fresh.search(asked, k), 21)
        churned = median_seconds(lambda asked=asked: index.search(asked, k), 21)
        print(f"{kind:<5} half of {size:,} items replaced, {what}: {churned / rest:.2f} × a fresh index", flush=True)
    index.compact()
    compacted = median_seconds(lambda: index.search(queries, k))
    print(f"{kind:<5} after compact: {compacted / median_seconds(lambda: fresh.search(queries, k)):.2f} ×", flush=True)


def measure_filters(kind, codes, queries, k):
    """Search with masks of several shares, against a scan of a copy of the selected codes."""
    index = deephash.index(codes, kind)
    for share in SHARES:
        mask = torch.from_numpy(np.random.default_rng(1).random(len(codes)) < share)
        for asked in (queries, queries[:1]):
            scan = median_seconds(lambda mask=mask, asked=asked: Flat(codes[mask], 64).search(asked, k))
            ours = median_seconds(lambda mask=mask, asked=asked: index.search(asked, k, where=mask))
            print(
                f"{kind:<5} filter selects {share:<6} of {len(codes):,}, {len(asked)} queries: {ours / scan:.2f} × the "
                f"filtered scan ({1e3 * scan / len(asked):.3f} ms a query)",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--start", type=int, default=100_000, help="codes before the first add")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", default=["flat", "mih"])
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, help="folder on the disk to write to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    total = given.start + given.size
    codes = encode_patches(given.images, total + given.queries)
    queries, codes = codes[total:], codes[:total]
    for kind in given.kinds:
        if 1 in given.parts:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                measure_adds(kind, codes, given.start, given.batch, queries, given.k, Path(folder) / "index")
        if 2 in given.parts:
            measure_churn(kind, codes, given.batch, queries, given.k)
        if 3 in given.parts:
            measure_filters(kind, codes[: given.size], queries, given.k)


if __name__ == "__main__":
    main()
