"""The late-interaction kernel for the CPU, compiled by numba."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, disable-error-code="call-arg"

import numpy as np

from deephash.functional.compiled import compiled
from deephash.ranking.numba_vectors import popcount


@compiled
def search_documents(queries, query_starts, codes, starts, among, farthest, distances, found, begin, end):
    """Find the k nearest documents of each query, by distance and then by id.

    The distance is the sum, over the query's tokens, of the Hamming distance to the nearest token of the document.
    Tokens are words, `queries` (t, W) and `codes` (T, W); document i has the tokens starts[i] to starts[i + 1].
    `among`, int64 (q, c), lists the documents that are compared, with -1 for none; with c = 0 all are. `distances` and
    `found`, int64 (q, k), are filled; places without a document have id -1 and the distance `farthest` per token.

    A document is given up as soon as the tokens compared so far are no nearer than all tokens of the k-th document.
    """
    width, k = codes.shape[1], found.shape[1]
    everything = among.shape[1] == 0
    count = len(starts) - 1 if everything else among.shape[1]
    for query in range(begin, end):
        first, last = query_starts[query], query_starts[query + 1]
        distances[query], found[query] = farthest * (last - first), -1
        kept = 0
        for place in range(count):
            document = place if everything else among[query, place]
            if document < 0 or starts[document] == starts[document + 1]:
                continue
            limit = distances[query, k - 1] if kept == k else np.int64(1) << 60
            total = np.int64(0)
            for token in range(first, last):
                nearest = farthest
                for item in range(starts[document], starts[document + 1]):
                    apart = np.uint64(0)
                    for word in range(width):
                        apart += popcount(queries[token, word] ^ codes[item, word])
                    nearest = min(nearest, np.int64(apart))
                total += nearest
                if total > limit:
                    break
            if total > limit or (kept == k and total == limit and document > found[query, k - 1]):
                continue
            kept = min(kept + 1, k)
            position = kept - 1
            while position > 0 and (
                distances[query, position - 1] > total
                or (distances[query, position - 1] == total and found[query, position - 1] > document)
            ):
                distances[query, position] = distances[query, position - 1]
                found[query, position] = found[query, position - 1]
                position -= 1
            distances[query, position], found[query, position] = total, document
