"""The late-interaction kernel for a GPU, in Triton."""

# Triton compiles these functions from their source, where a parameter's annotation means a compile-time constant.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

from deephash.ranking.triton_kernels import popcount


@triton.jit
def document_distances_kernel(
    queries,
    query_starts,
    codes,
    starts,
    documents,
    distances,
    n_documents,
    stride,
    width,
    farthest,
    TOKENS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    """Sum, over the tokens of one query, the Hamming distance to the nearest token of one document.

    Program (i, j) fills distances[j, i], int32 (q, n), for query j and the document at documents + j stride + i,
    where -1 is a document without tokens. Tokens are int32 words, `queries` (t, width) and `codes` (T, width).
    Tokens of the query are taken TOKENS at a time, those of the document ITEMS at a time.
    """
    place, query = tl.program_id(0), tl.program_id(1)
    document = tl.load(documents + query.to(tl.int64) * stride + place)
    first, last = tl.load(query_starts + query), tl.load(query_starts + query + 1)
    begin = tl.load(starts + document, mask=document >= 0, other=0)
    end = tl.load(starts + document + 1, mask=document >= 0, other=0)
    total = tl.sum(tl.zeros((TOKENS,), tl.int32), 0)
    for block in range(first, last, TOKENS):
        tokens = block + tl.arange(0, TOKENS)
        nearest = tl.zeros((TOKENS,), tl.int32) + farthest
        for start in range(begin, end, ITEMS):
            items = start + tl.arange(0, ITEMS)
            apart = tl.zeros((TOKENS, ITEMS), tl.int32)
            for column in range(width):
                query_words = tl.load(queries + tokens * width + column, mask=tokens < last, other=0)
                words = tl.load(codes + items * width + column, mask=items < end, other=0)
                apart += popcount((query_words[:, None] ^ words[None, :]).to(tl.uint32, bitcast=True))
            apart = tl.where(items[None, :] < end, apart, farthest)
            nearest = tl.minimum(nearest, tl.min(apart, 1))
        total += tl.sum(tl.where(tokens < last, nearest, 0), 0)
    tl.store(distances + query.to(tl.int64) * n_documents + place, total)
