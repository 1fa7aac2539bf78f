"""Time and memory of a store of documents: additions, the fit, opening, searches and filters.

Embeddings are random clusters, texts are 300 characters. Times are wall-clock; memory is the growth of the process.

    python benchmarks/document_store.py --size 100000 --dimension 384
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from deephash.integrations.document_table import Record
from deephash.integrations.hashed_documents import HashedDocuments
from deephash.integrations.metadata_condition import compare, equals

QUERIES, BATCH = 50, 1_000


def make_embeddings(count, dimension, seed):
    centres = np.random.default_rng(0).normal(size=(1_000, dimension)).astype("float32")
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, dimension)).astype("float32")
    return centres[generator.integers(0, len(centres), count)] + 0.7 * noise


def timed(name, function, repeats=1):
    began = time.perf_counter()
    for _ in range(repeats):
        result = function()
    print(f"{name:60} {(time.perf_counter() - began) / repeats * 1e3:10.1f} ms", flush=True)
    return result


def search_all(store, queries, where=None):
    return [store.search(query, 10, where) for query in queries]


def main(size, dimension, vectors, kind):
    torch.set_num_threads(1)
    process = psutil.Process()
    embeddings, queries = make_embeddings(size, dimension, 1), make_embeddings(QUERIES, dimension, 2)
    with tempfile.TemporaryDirectory() as folder:
        store = HashedDocuments(folder, vectors=vectors, kind=kind)

        def add():
            for start in range(0, size, BATCH):
                rows = range(start, min(size, start + BATCH))
                records = [
                    Record(
                        f"doc-{row}", "x" * 300, {"row": row, "group": f"g{row % 10}", "nested": {"odd": row % 2 == 1}}
                    )
                    for row in rows
                ]
                store.add(records, embeddings[rows.start : rows.stop])

        timed(f"add {size} documents by {BATCH}, with the fit", add)
        store.close()
        del store
        before = process.memory_info().rss
        store = timed("open", lambda: HashedDocuments(folder))
        search_all(store, queries[:2])
        print(f"{'memory of the opened store':60} {(process.memory_info().rss - before) / 2**20:10.1f} MiB")
        print(f"{'database':60} {(Path(folder) / 'documents.sqlite').stat().st_size / 2**20:10.1f} MiB")
        for _ in range(3):  # The first searches load compiled kernels.
            search_all(store, queries)
        hits = timed(f"{QUERIES} searches, k=10", lambda: search_all(store, queries))
        for name, where in (
            ("a tenth of the documents", equals(("group",), "g3")),
            ("a thousandth", compare(("row",), "<", size // 1000)),
        ):
            timed(
                f"{QUERIES} searches with a filter that selects {name}",
                lambda where=where: search_all(store, queries, where),
            )
        found = [[hit.row - 1 for hit in each] for each in hits]
        unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        near = np.argsort(-(queries @ unit.T), axis=1)[:, :10]
        recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, near.tolist(), strict=True)])
        print(f"{'recall@10':60} {recall:10.3f}")
        names = [f"doc-{row}" for row in range(0, size, 100)]
        timed(f"remove {len(names)} documents", lambda: store.remove(names))
        timed("add one document", lambda: store.add([Record("new", "text")], queries[:1]), 10)
        if vectors != "none":
            timed("fit again", store.fit)
        store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--vectors", default="float32")
    parser.add_argument("--kind", default="flat")
    given = parser.parse_args()
    main(given.size, given.dimension, given.vectors, given.kind)
