"""Distances of a few queries to codes as they are stored, without tiles, as LLVM code that numba inlines.

A vector of 64 bytes holds 8, 4 or 2 short codes, or a part of one code. One instruction counts the ones of its words
(AVX-512 VPOPCNTDQ). The counts of 8 codes are added in pairs of neighbouring words, until one vector holds the 8 sums.

numba's disk cache does not watch this file: delete the cache after a change.
"""

# numba calls the generators of code with types that have no annotations.
# ruff: noqa: ANN001, ANN201, ANN202, D417
# mypy: allow-untyped-defs, disable-error-code="misc"

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from deephash.ranking.numba_vectors import INT8, INT64, add_to, call, constant, vector_at

VECTOR, ITEMS = 64, 8  # Bytes of a vector, and items of a step.
WORDS = ir.VectorType(INT64, 8)
WHOLE_WIDTHS = (8, 16, 32, 64)
"""Bytes of codes of which a vector holds a whole number."""


def pack_rows(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Lay out queries (q, B) for codes as they are stored.

    Returns:
        uint64 (q + 1, 8 ⌈B/64⌉): the codes, repeated if a vector holds several, otherwise padded with zeros; then a
        mask of the bytes that belong to a code.
    """
    size, width = codes.shape
    if width in WHOLE_WIDTHS:
        repeated = np.full((size + 1, VECTOR // width, width), 255, np.uint8)
        repeated[:size] = codes[:, None]
        return repeated.reshape(size + 1, VECTOR).view(np.uint64)
    rows = np.zeros((size + 1, -(-width // VECTOR) * VECTOR), np.uint8)
    rows[:size, :width] = codes
    rows[size, :width] = 255
    return rows.view(np.uint64)


def load_words(builder, pointer, index):
    """Load 64 bytes at a byte as 8 words."""
    return builder.bitcast(builder.load(vector_at(builder, pointer, index, INT8, VECTOR), align=1), WORDS)


def count_ones(builder, words):
    """Count the ones of each word."""
    return call(builder, "llvm.ctpop.v8i64", WORDS, words)


def add_neighbours(builder, vectors):
    """Add neighbouring words of vectors, of which there is an even number; half as many vectors remain."""
    even, odd = (constant(ir.IntType(32), [*range(first, 16, 2)]) for first in (0, 1))
    pairs = zip(vectors[::2], vectors[1::2], strict=True)
    return [
        builder.add(builder.shuffle_vector(one, other, even), builder.shuffle_vector(one, other, odd))
        for one, other in pairs
    ]


def store_sums(builder, vectors, out, kind):
    """Add neighbours until one vector is left, and store its 8 sums."""
    while len(vectors) > 1:
        vectors = add_neighbours(builder, vectors)
    bits = kind.bitwidth
    sums = builder.trunc(vectors[0], ir.VectorType(ir.IntType(bits), ITEMS))
    builder.store(sums, vector_at(builder, out, ir.Constant(INT64, 0), ir.IntType(bits), ITEMS), align=1)


def _whole_codes(words):
    """Make the intrinsic for codes of 1, 2, 4 or 8 words."""

    @intrinsic
    def write_whole_codes(typing_context, query, items, out):
        """Write the distances of a query, repeated in 8 words, to 8 codes in a row."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            query, items, out = args
            asked = builder.load(vector_at(builder, query, ir.Constant(INT64, 0), INT64, 8), align=8)
            places = [ir.Constant(INT64, VECTOR * vector) for vector in range(words)]
            differing = [builder.xor(load_words(builder, items, place), asked) for place in places]
            store_sums(builder, [count_ones(builder, each) for each in differing], out, signature.args[2].dtype)
            return context.get_dummy_value()

        return types.void(query, items, out), generate

    return write_whole_codes


write_words_1, write_words_2, write_words_4, write_words_8 = map(_whole_codes, (1, 2, 4, 8))


@intrinsic
def write_long_codes(typing_context, query, mask, items, width, vectors, out):
    """Write the distances of a query to 8 codes in a row, of any number of bytes.

    Args:
        query: pointer to 8 words for each vector of a code, the last ones padded with zeros.
        mask: pointer to the mask of the bytes of a code, likewise.
        items: pointer to the first code; 64 `vectors` bytes from each code on are read.
        width: bytes of a code.
        vectors: vectors of a code.
        out: pointer to the 8 distances.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        query, mask, items, width, vectors, out = args
        sums = [cgutils.alloca_once_value(builder, ir.Constant(WORDS, None)) for _ in range(ITEMS)]
        for place in sums:
            builder.store(ir.Constant(WORDS, None), place)
        with cgutils.for_range(builder, vectors) as loop:
            word = builder.mul(loop.index, ir.Constant(INT64, 8))
            byte = builder.mul(loop.index, ir.Constant(INT64, VECTOR))
            asked, valid = (
                builder.load(vector_at(builder, source, word, INT64, 8), align=8) for source in (query, mask)
            )
            for item, place in enumerate(sums):
                start = builder.add(builder.mul(width, ir.Constant(INT64, item)), byte)
                differing = builder.and_(builder.xor(load_words(builder, items, start), asked), valid)
                add_to(builder, place, count_ones(builder, differing))
        store_sums(builder, [builder.load(place) for place in sums], out, signature.args[5].dtype)
        return context.get_dummy_value()

    return types.void(query, mask, items, types.int64, types.int64, out), generate
