"""Compare Qdrant's binary quantisation of vectors with codes that were learnt, both in Qdrant's own engine.

python benchmarks/qdrant_bits.py VECTORS.npz    arrays `base` (N, d) and `query` (q, d)

Needs qdrant-edge-py. Recall is the share of a query's 10 nearest vectors, by Euclidean distance, among the candidates
that the engine finds by the bits in memory alone. The vectors are as they are, or with their mean subtracted; codes are
ITQ's, fitted on the base.
"""

import argparse
import tempfile

import numpy as np
import qdrant_edge as edge

from deephash import ITQ, Hasher
from deephash.integrations.databases.base import Rows
from deephash.integrations.databases.qdrant_collection import code_vectors, collection_body, points_body

NEIGHBOURS, CANDIDATES, EF, BLOCK = 10, (10, 50, 100), 512, 1000


def find_nearest(base, queries):
    """Find the nearest vectors by Euclidean distance, int64 (q, 10)."""
    squares = (base**2).sum(1) - 2 * queries @ base.T
    return np.argsort(squares, axis=1, kind="stable")[:, :NEIGHBOURS]


def build(folder, size, distance, datatype, blocks):
    """Store points with binary quantisation, and build the graph."""
    quantization = edge.BinaryQuantizationConfig(always_ram=True)
    vectors = edge.EdgeVectorParams(
        size=size, distance=distance, datatype=datatype, on_disk=True, quantization_config=quantization
    )
    optimizers = edge.EdgeOptimizersConfig(indexing_threshold=100)
    shard = edge.EdgeShard.create(folder, edge.EdgeConfig(vectors=vectors, optimizers=optimizers))
    for points in blocks:
        shard.update(edge.UpdateOperation.upsert_points([edge.Point(**point) for point in points]))
    shard.optimize()
    return shard


def measure_recall(shard, queries, nearest):
    """Return the recall for each number of candidates."""
    params = edge.SearchParams(hnsw_ef=EF, quantization=edge.QuantizationSearchParams(rescore=False))
    found = np.zeros(len(CANDIDATES))
    for query, true in zip(queries, nearest, strict=True):
        request = edge.QueryRequest(limit=max(CANDIDATES), query=edge.Query.Nearest(query), params=params)
        ids = [point.id for point in shard.query(request)]
        found += [len(set(ids[:count]) & set(true.tolist())) for count in CANDIDATES]
    return found / (NEIGHBOURS * len(queries))


def float_blocks(base):
    for start in range(0, len(base), BLOCK):
        rows = enumerate(base[start : start + BLOCK].tolist(), start)
        yield [{"id": row, "vector": vector, "payload": {}} for row, vector in rows]


def code_blocks(codes, bits):
    for block in Rows(codes, np.arange(len(codes)), None).split(BLOCK):
        yield points_body(block, bits)["points"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vectors")
    file = parser.parse_args().vectors
    with np.load(file) as stored:
        base, queries = (stored[name].astype(np.float32) for name in ("base", "query"))
    nearest, size = find_nearest(base, queries), base.shape[1]
    print(f"{len(base)} vectors of {size} dimensions, {len(queries)} queries; recall@{NEIGHBOURS} among candidates")
    print(f"{'':>32}" + "".join(f"{count:>8}" for count in CANDIDATES))

    def report(name, *given, searched):
        with tempfile.TemporaryDirectory() as folder:
            shard = build(folder, *given)
            print(f"{name:>32}" + "".join(f"{each:>8.3f}" for each in measure_recall(shard, searched, nearest)))
            shard.close()

    mean = base.mean(0)
    for name, centre in (("Qdrant's, as they are", 0 * mean), ("Qdrant's, mean subtracted", mean)):
        given = (size, edge.Distance.Euclid, edge.VectorStorageDatatype.Float32, float_blocks(base - centre))
        report(f"{name}, {size}", *given, searched=(queries - centre).tolist())
    for bits in (size // 2, size):
        hasher = Hasher(ITQ(size, bits)).fit(base)
        assert collection_body(bits)["vectors"]["distance"] == "Manhattan"
        codes, asked = hasher.encode(base).numpy(), hasher.encode(queries).numpy()
        given = (bits, edge.Distance.Manhattan, edge.VectorStorageDatatype.Uint8, code_blocks(codes, bits))
        report(f"ITQ, {bits} bits", *given, searched=code_vectors(asked, bits))


if __name__ == "__main__":
    main()
