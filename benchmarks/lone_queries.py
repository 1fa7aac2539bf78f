"""Single queries in an index of kind flat, beside FAISS's scan: python benchmarks/lone_queries.py [--items 59000].

Both search random codes with one thread, in blocks of 10 queries in turn. The script prints the medians and the least
times in microseconds, and the ratio of the medians; below 1, deephash is faster. About 10 s.
"""

import argparse
import statistics
import time

import faiss
import numpy as np
import torch

import deephash
from deephash.ranking.numba_engine import NumbaEngine

QUERIES, BLOCK, TURNS = 50, 10, 6


def measure_pair(bits, items, k):
    """Return the seconds of each single search, ours and FAISS's."""
    generator = np.random.default_rng(0)
    codes, queries = (generator.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (items, QUERIES))
    index = deephash.index(codes, "flat", engine=NumbaEngine())
    rival = faiss.IndexBinaryFlat(bits)
    rival.add(codes)
    tensors = torch.from_numpy(queries)
    searches = {
        "deephash": lambda place: index.search(tensors[place : place + 1], k),
        "faiss": lambda place: rival.search(queries[place : place + 1], k),
    }
    for place in range(3):  # Kernels are compiled.
        assert np.array_equal(searches["deephash"](place)[0].numpy(), searches["faiss"](place)[0])
    times = {name: [] for name in searches}
    for first in list(range(0, QUERIES, BLOCK)) * TURNS:
        for name, search in searches.items():
            for place in range(first, first + BLOCK):
                began = time.perf_counter()
                search(place)
                times[name].append(time.perf_counter() - began)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=59_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 128, 256, 512, 1024])
    parser.add_argument("-k", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    for bits in given.bits:
        times = measure_pair(bits, given.items, given.k)
        medians = {name: 1e6 * statistics.median(own) for name, own in times.items()}
        shown = ", ".join(f"{name} {medians[name]:.0f} (least {1e6 * min(own):.0f})" for name, own in times.items())
        print(f"{bits:>5} bits: {shown} microseconds, ratio {medians['deephash'] / medians['faiss']:.2f}", flush=True)


if __name__ == "__main__":
    main()
