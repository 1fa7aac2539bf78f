"""Counts of equal distances, and lists of near ones, in vector instructions: LLVM code that numba inlines.

numba's disk cache does not watch this file: delete the cache after a change.
"""

# numba calls the generators of code with types that have no annotations.
# ruff: noqa: ANN001, ANN201, ANN202, D417
# mypy: allow-untyped-defs, disable-error-code="misc, call-arg"

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

from deephash.ranking.numba_vectors import (
    BYTES,
    INT8,
    INT32,
    INT64,
    LANES,
    PERMUTES,
    add_to,
    call,
    constant,
    lowest_one,
    shuffle_bytes,
    splat,
    vector_at,
)


@intrinsic
def nonzero(typing_context, masks):
    """Return a uint64 whose bit i is 1 if the i-th of 16 words is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = builder.load(vector_at(builder, args[0], ir.Constant(INT64, 0), INT64, 16), align=8)
        some = builder.icmp_unsigned("!=", words, ir.Constant(words.type, None))
        return builder.zext(builder.bitcast(some, ir.IntType(16)), INT64)

    return types.uint64(masks), generate


@register_jitable
def _list_in_turn(mask, first, places):
    found = 0
    while mask:
        places[found] = first + np.int64(lowest_one(mask))
        mask &= mask - np.uint64(1)
        found += 1
    return found


@intrinsic
def _compress_ones(typing_context, mask, first, places):
    """Implement `list_ones` where one instruction moves the chosen lanes of a vector together."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask, first, places = args
        start = ir.Constant(INT64, 0)
        for half in range(2):
            bits = builder.trunc(builder.lshr(mask, ir.Constant(INT64, 32 * half)), INT32)
            ones = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 32))
            numbers = constant(ir.IntType(16), [*range(32 * half, 32 * half + 32)])
            numbers = builder.add(numbers, splat(builder, builder.trunc(first, ir.IntType(16)), 32))
            kept = call(builder, "llvm.x86.avx512.mask.compress.v32i16", numbers.type, numbers, numbers, ones)
            builder.store(kept, vector_at(builder, places, start, ir.IntType(16), 32), align=1)
            start = builder.add(start, builder.zext(builder.ctpop(bits), INT64))
        return start

    return types.int64(mask, types.int64, places), generate


def list_ones(mask, first, places):
    """Write first + i for each bit i of a mask that is 1, in order, and return their number; in compiled code.

    Args:
        mask: uint64.
        first: place of bit 0.
        places: pointer to uint16, with space for 64 more than are written.
    """
    raise NotImplementedError


@overload(list_ones)
def _list_ones(mask, first, places):
    return (lambda mask, first, places: _compress_ones(mask, first, places)) if PERMUTES else _list_in_turn


@intrinsic
def any_common(typing_context, labels, mask):
    """Return a uint64 whose bit i is 1 if the i-th of 64 words has a one in common with the mask."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = builder.load(vector_at(builder, args[0], ir.Constant(INT64, 0), INT64, LANES), align=8)
        common = builder.and_(words, splat(builder, args[1], LANES))
        return builder.bitcast(builder.icmp_unsigned("!=", common, ir.Constant(words.type, None)), INT64)

    return types.uint64(labels, types.uint64), generate


@register_jitable
def _keep_in_turn(values, mask, kept):
    found = 0
    while mask:
        kept[found] = values[np.int64(lowest_one(mask))]
        mask &= mask - np.uint64(1)
        found += 1
    return found


@intrinsic
def _compress(typing_context, values, mask, kept):
    """Implement `keep_marked` where one instruction moves the chosen lanes of a vector together."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, mask, kept = args
        bits = signature.args[0].dtype.bitwidth
        lanes, kind, start = 512 // bits, ir.IntType(bits), ir.Constant(INT64, 0)
        every = ir.IntType(lanes)
        for first in range(0, LANES, lanes):
            part = builder.lshr(mask, ir.Constant(INT64, first))
            part = part if lanes == 64 else builder.trunc(part, every)
            vector = builder.load(vector_at(builder, values, ir.Constant(INT64, first), kind, lanes), align=1)
            marked = builder.bitcast(part, ir.VectorType(ir.IntType(1), lanes))
            name = f"llvm.x86.avx512.mask.compress.v{lanes}i{bits}"
            vector = call(builder, name, vector.type, vector, vector, marked)
            builder.store(vector, vector_at(builder, kept, start, kind, lanes), align=1)
            ones = builder.ctpop(part)
            start = builder.add(start, ones if lanes == 64 else builder.zext(ones, INT64))
        return start

    return types.int64(values, types.uint64, kept), generate


def keep_marked(values, mask, kept):
    """Copy those of 64 values whose bit in a mask is 1, in order, and return their number; in compiled code.

    Args:
        values: pointer to 64 unsigned integers.
        mask: uint64.
        kept: pointer to the same type, with space for 64 more than are copied.
    """
    raise NotImplementedError


@overload(keep_marked)
def _keep_marked(values, mask, kept):
    if not PERMUTES:
        return _keep_in_turn
    return lambda values, mask, kept: _compress(values, mask, kept)


def _generate_tally(context, builder, args, lanes, one_hot):
    """Generate the loops of a tally: carry-save adders sum vectors of one-hot bytes in the form of binary digits.

    There is one vector per digit (Harley & Seal; Muła, Kurz & Lemire, "Faster population counts using AVX2
    instructions", The Computer Journal 2018), so that the bits of only one vector in 16 must be counted.
    """
    pointer, size, counts = args
    kind = ir.VectorType(INT8, lanes)
    digits = [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(5)]
    for digit in digits:
        builder.store(ir.Constant(kind, None), digit)

    def one_hot_at(index):
        return one_hot(builder.load(vector_at(builder, pointer, index, INT8, lanes), align=1))

    def carry(level, start):
        """Add 2^level vectors from an element to the digits below the level, and return the carry."""
        if level == 0:
            return one_hot_at(start)
        half = carry(level - 1, start)
        middle = builder.add(start, ir.Constant(INT64, lanes << (level - 1)))
        other, digit = carry(level - 1, middle), builder.load(digits[level - 1])
        differing = builder.xor(half, other)
        builder.store(builder.xor(differing, digit), digits[level - 1])
        return builder.or_(builder.and_(half, other), builder.and_(differing, digit))

    def count_bits(bits, weight):
        for d in reversed(range(8)):
            highest = builder.icmp_signed("<", bits, ir.Constant(kind, None))
            ones = builder.zext(builder.ctpop(builder.bitcast(highest, ir.IntType(lanes))), INT64)
            ones = builder.mul(ones, ir.Constant(INT64, weight))
            add_to(builder, builder.gep(counts, [ir.Constant(INT64, d)]), ones)
            bits = builder.add(bits, bits)

    block = ir.Constant(INT64, 16 * lanes)
    blocks = builder.udiv(size, block)
    with cgutils.for_range(builder, blocks) as loop:
        count_bits(carry(4, builder.mul(loop.index, block)), 16)
    done = builder.mul(blocks, block)
    width = ir.Constant(INT64, lanes)
    with cgutils.for_range_slice(builder, done, size, width) as (start, _):
        # The last vector has items beyond the end.
        left = builder.sub(size, start)
        whole = builder.icmp_unsigned(">=", left, width)
        shift = builder.select(whole, ir.Constant(INT64, 0), builder.sub(width, left))
        every = ir.IntType(lanes)
        mask = builder.lshr(ir.Constant(every, -1), shift if lanes == 64 else builder.trunc(shift, every))
        valid = builder.bitcast(mask, ir.VectorType(ir.IntType(1), lanes))
        bits = builder.select(valid, one_hot_at(start), ir.Constant(kind, None))
        for digit in digits:
            before = builder.load(digit)
            builder.store(builder.xor(before, bits), digit)
            bits = builder.and_(before, bits)
    for level, digit in enumerate(digits):
        count_bits(builder.load(digit), 1 << level)
    return context.get_dummy_value()


@intrinsic
def tally(typing_context, distances, size, first, counts):
    """Count the 8 distances from `first` among `size` distances, without a memory access per item.

    A shuffle turns each distance into a byte with one bit, and the bits are counted.

    Args:
        distances: pointer to uint8; vectors read up to 63 more.
        size: number of distances.
        first: first of the 8 distances, which differs from all others by at most 128.
        counts: pointer to the int64 count of the first distance, which is added to.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, size, first, counts = args
        base = splat(builder, builder.trunc(first, INT8), 32)
        one_bit = constant(INT8, [1 << place if place < 8 else 0 for place in range(16)] * 2)

        def one_hot(values):
            # Differences outside of 0 to 15 get their highest bit set, for which a shuffle returns 0.
            values = builder.sub(values, base)
            values = call(builder, "llvm.uadd.sat.v32i8", BYTES, values, constant(INT8, [0x70] * 32))
            return shuffle_bytes(builder, one_bit, values)

        return _generate_tally(context, builder, (pointer, size, counts), 32, one_hot)

    return types.void(distances, types.int64, types.int64, counts), generate


def _tally_by_table(places):
    """Make an intrinsic like `tally` that looks each distance up in a table of 64 or 128 bytes."""

    @intrinsic
    def tally_by_table(typing_context, distances, size, first, counts):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer, size, first, counts = args
            kind = ir.VectorType(INT8, LANES)
            one_bit = constant(INT8, [1 << place if place < 8 else 0 for place in range(LANES)])
            nothing = ir.Constant(kind, None)
            base = splat(builder, builder.trunc(first, INT8), LANES)

            def look_up(tables, values):
                # The instructions ignore the upper bits of a value, so that a table serves distances modulo its size.
                if places == LANES:
                    return call(builder, "llvm.x86.avx512.permvar.qi.512", kind, tables[0], values)
                return call(builder, "llvm.x86.avx512.vpermi2var.qi.512", kind, tables[0], values, tables[1])

            tables = [
                look_up([one_bit, nothing], builder.sub(constant(INT8, [*range(start, start + LANES)]), base))
                for start in range(0, places, LANES)
            ]
            return _generate_tally(
                context, builder, (pointer, size, counts), LANES, lambda values: look_up(tables, values)
            )

        return types.void(distances, types.int64, types.int64, counts), generate

    return tally_by_table


# For distances of which no two differ by 64 or 128, respectively.
tally_64, tally_128 = _tally_by_table(64), _tally_by_table(128)
