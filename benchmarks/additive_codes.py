"""Additive codes: fitting, encoding and single float queries against FAISS's product quantisation of the same bytes.

python benchmarks/additive_codes.py --items 1000000 --bits 128

Vectors are drawn around centres, with variances that fall from dimension to dimension as those of embeddings do, and
have unit length. FAISS's fast scan holds two subquantisers of 4 bits a byte; its byte of a length is missing. Times of
queries are medians of 50.
"""

import argparse
import time

import faiss
import numpy as np
import torch

from deephash.compression import AdditiveCoder, AsymmetricScan
from deephash.compression.code_products import ByteLengths, CodeProducts
from deephash.functional.safe_scale import power_of_two
from deephash.hashers.hasher import Hasher
from deephash.projections.itq import ITQ
from deephash.quantizers.sbq import SBQ

TRAINING, QUERIES, NEIGHBOURS = 50_000, 50, 10


def draw_vectors(count: int, dimension: int, generator: torch.Generator) -> torch.Tensor:
    """Draw vectors float32 (n, d) of unit length, block by block."""
    spread = torch.arange(1, dimension + 1).float().rsqrt()
    centres = torch.randn(2_000, dimension, generator=generator) * spread
    vectors = torch.empty(count, dimension)
    for block in torch.split(vectors, 50_000):
        rows = torch.randint(len(centres), (len(block),), generator=generator)
        block.copy_(centres[rows] + 0.7 * spread * torch.randn(len(block), dimension, generator=generator))
        block /= block.norm(dim=1, keepdim=True)
    return vectors


def time_queries(search, queries):
    """Return the median milliseconds of single queries, and all ids found."""
    search(queries[:1])
    times, ids = [], []
    for query in torch.split(queries, 1):
        start = time.perf_counter()
        ids.append(search(query))
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)), np.concatenate([np.asarray(found) for found in ids])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--bits", type=int, default=128)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    faiss.omp_set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    vectors = draw_vectors(options.items, options.dimension, generator)
    queries = torch.nn.functional.normalize(
        vectors[torch.randint(options.items, (QUERIES,), generator=generator)]
        + 0.5 * torch.randn(QUERIES, options.dimension, generator=generator) / options.dimension**0.5
    )
    print(f"{options.items:,} vectors of {options.dimension} dimensions, {options.bits} bits, {threads} threads")

    start = time.perf_counter()
    hasher = Hasher(ITQ(options.dimension, options.bits), SBQ(options.bits)).fit(vectors[:TRAINING])
    coder = AdditiveCoder(hasher).fit(vectors[:TRAINING])
    print(f"fit on {TRAINING:,}: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    codes = coder.encode(vectors)
    encoding = time.perf_counter() - start
    start = time.perf_counter()
    directions = torch.randn(options.dimension, options.bits)
    for block in torch.split(vectors, 8192):
        block @ directions
    product = time.perf_counter() - start
    print(f"encoding: {encoding:.1f} s; the matrix product alone: {product:.1f} s; ratio {encoding / product:.1f}")

    start = time.perf_counter()
    rival = faiss.IndexPQFastScan(options.dimension, options.bits // 4, 4, faiss.METRIC_INNER_PRODUCT)
    rival.train(vectors[:TRAINING].numpy())
    rival.add(vectors.numpy())
    print(f"FAISS PQ fast scan, fit and encoding: {time.perf_counter() - start:.1f} s")

    scan = AsymmetricScan(codes, coder.decoder)
    decoder, _ = coder.decoder.normalise()
    products = CodeProducts(codes, decoder, True, ByteLengths(codes, decoder))

    def search_products(query):
        query = query / power_of_two(query, 1)
        return products.search(decoder.weights(query), query @ decoder.offset, NEIGHBOURS)[1]

    nearest = time_queries(lambda query: (query @ vectors.T).topk(NEIGHBOURS).indices, queries)
    searches = {
        "additive codes, in vector instructions": lambda query: scan.search(query, NEIGHBOURS)[1],
        "additive codes, matrix product": search_products,
        "FAISS PQ fast scan": lambda query: rival.search(query.numpy(), NEIGHBOURS)[1],
    }
    measured = {"float vectors": nearest} | {name: time_queries(search, queries) for name, search in searches.items()}
    own = measured["additive codes, in vector instructions"][0]
    for name, (milliseconds, ids) in measured.items():
        recall = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(ids, nearest[1], strict=True)])
        print(f"{name}: {milliseconds:.2f} ms a query ({milliseconds / own:.1f} ×), recall@{NEIGHBOURS} {recall:.3f}")


if __name__ == "__main__":
    main()
