"""Exact neighbours by the float64 rule against FAISS's flat float32 index: python benchmarks/exact_neighbours.py.

Interleaved repetitions in one process, 1,000 queries × 59,000 × 128 dimensions; prints the minimum and the median of
each, and the ratio of the minima. Both find the same neighbours except for ties that float32 cannot distinguish.
"""

import statistics
import time

import faiss
import numpy as np

from deephash.affinity.euclidean import find_nearest, find_within_radius

QUERIES, ITEMS, DIMENSIONS, REPETITIONS, K = 1000, 59000, 128, 7, 100


def draw_features(rng, n, weights):
    """Draw features of low intrinsic dimension that are bent by a nonlinearity, like descriptors."""
    latent = rng.standard_normal((n, len(weights)), np.float32)
    return np.tanh(0.4 * latent @ weights) + 0.05 * rng.standard_normal((n, weights.shape[1]), np.float32)


def main():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((12, DIMENSIONS), np.float32)
    database, queries = draw_features(rng, ITEMS, weights), draw_features(rng, QUERIES, weights)
    index = faiss.IndexFlatL2(DIMENSIONS)
    index.add(database)
    _, kth = find_nearest(queries, database, K)
    radius = float(np.sqrt(kth).mean())
    tasks = {
        f"{K} nearest, deephash": lambda: find_nearest(queries, database, K),
        f"{K} nearest, FAISS": lambda: index.search(queries, K),
        "within a radius, deephash": lambda: list(find_within_radius(queries, database, radius)),
        "within a radius, FAISS": lambda: index.range_search(queries, radius**2),
    }
    seconds = {name: [] for name in tasks}
    for _ in range(REPETITIONS):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    for name, measured in seconds.items():
        print(f"{name:26s} min {min(measured):.3f} s   median {statistics.median(measured):.3f} s")
    for what in (f"{K} nearest", "within a radius"):
        ratio = min(seconds[f"{what}, FAISS"]) / min(seconds[f"{what}, deephash"])
        print(f"{what}: FAISS takes {ratio:.2f} × our time")


if __name__ == "__main__":
    main()
