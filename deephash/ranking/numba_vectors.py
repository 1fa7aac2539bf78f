"""Vector instructions for the CPU kernels, as LLVM code that numba inlines.

Items are in tiles of 64, byte by byte (see `numba_layout.Layout`), so that a vector holds the same byte of many items.
`add_costs` looks each half byte up in a table of the query with one byte shuffle (`vpshufb`), as product quantisers do
(André, Kermarrec & Le Scouarnec, "Cache locality is not enough", VLDB 2015). `add_popcounts` counts differing bits per
byte, which is one instruction where the processor has one (AVX-512 BITALG, NEON) and correct elsewhere.

numba's disk cache does not watch this file: delete the cache after a change.
"""

# numba calls the generators of code with types that have no annotations.
# ruff: noqa: ANN001, ANN002, ANN201, ANN202, D417
# mypy: allow-untyped-defs, disable-error-code="misc"

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

# Items of a tile.
LANES = 64
# Queries that share each load of a tile, so that their sums stay in registers.
GROUP = 4

INT8, INT32, INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
BYTES = ir.VectorType(INT8, 32)


def target_features() -> frozenset[str]:
    """Return the names of the instruction sets that numba compiles for, such as "avx2"."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


# Whether byte shuffles of 32 bytes exist; whether tables of 64 bytes and lists of a mask's ones are one instruction.
SHUFFLES = "avx2" in target_features()
PERMUTES = {"avx512bw", "avx512vbmi", "avx512vbmi2"} <= target_features()


def constant(kind: Any, values: list[int]) -> ir.Constant:
    """Return a constant vector."""
    return ir.Constant(ir.VectorType(kind, len(values)), values)


def vector_at(builder, pointer, index, kind, lanes):
    """Return a pointer to the vector that begins at an element."""
    return builder.bitcast(builder.gep(pointer, [index]), ir.VectorType(kind, lanes).as_pointer())


def splat(builder, value, lanes):
    """Return a vector whose lanes all have one value."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, constant(INT32, [0] * lanes))


def call(builder, name, result, *arguments):
    """Call a function of LLVM by its name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def shuffle_bytes(builder, table, places):
    """Look bytes up in each half of a table of 32 bytes."""
    return call(builder, "llvm.x86.avx2.pshuf.b", BYTES, table, places)


def add_to(builder, place, value):
    """Add a value to that at a place in memory."""
    builder.store(builder.add(builder.load(place), value), place)


def _sum_planes(context, builder, signature, args, lanes, planes_of, add_plane):
    """Generate the loop over bytes of a code, and store the sums of `GROUP` queries for the items of a tile."""
    queries, stride, tile, start, stop, out, row, shift, add = args
    kind = ir.VectorType(INT8, lanes)
    parts = range(LANES // lanes)
    sums = [[cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in parts] for _ in range(GROUP)]
    for place in (place for row_sums in sums for place in row_sums):
        builder.store(ir.Constant(kind, None), place)
    with cgutils.for_range_slice(builder, start, stop, ir.Constant(INT64, 1)) as (plane, _):
        base = builder.mul(plane, ir.Constant(INT64, LANES))
        places = [builder.add(base, ir.Constant(INT64, lanes * part)) for part in parts]
        items = [planes_of(builder.load(vector_at(builder, tile, place, INT8, lanes), align=1)) for place in places]
        for query in range(GROUP):
            entry = builder.add(builder.mul(stride, ir.Constant(INT64, query)), plane)
            add_plane(queries, entry, items, sums[query])
    wide = signature.args[5].dtype.bitwidth
    for query in range(GROUP):
        for part in parts:
            index = builder.add(builder.mul(row, ir.Constant(INT64, query)), ir.Constant(INT64, lanes * part))
            place = vector_at(builder, out, index, ir.IntType(wide), lanes)
            value = builder.load(sums[query][part])
            if wide > 8:
                value = builder.zext(value, place.type.pointee)
                value = builder.shl(value, splat(builder, builder.trunc(shift, ir.IntType(wide)), lanes))
                before = builder.load(place, align=1)
                value = builder.add(value, builder.select(add, before, ir.Constant(before.type, None)))
            builder.store(value, place, align=1)
    return context.get_dummy_value()


def _pass_signature(queries, tile, out):
    return types.void(
        queries, types.int64, tile, types.int64, types.int64, out, types.int64, types.int64, types.boolean
    )


@intrinsic
def add_costs(typing_context, queries, stride, tile, start, stop, out, row, shift, add):
    """Write the sums of the costs of the bytes start to stop, for 4 queries and the 64 items of a tile.

    Args:
        queries: pointer to the tables of the first query, 32 costs uint8 per byte: of its lower and of its upper half.
        stride: bytes of a code from the tables of a query to those of the next.
        tile: pointer to a tile, uint8 (bytes, 64).
        start: first byte of the codes.
        stop: byte after the last one; no sum of costs may exceed 255.
        out: pointer to the results of the first query, uint8, uint16 or uint32.
        row: elements from the results of a query to those of the next.
        shift: places by which the sums are shifted to the left, except for uint8.
        add: whether the sums are added to the results, except for uint8.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = constant(INT32, [*range(16)] * 2)

        def halves(items):
            lower = builder.and_(items, constant(INT8, [15] * 32))
            return lower, builder.lshr(items, constant(INT8, [4] * 32))

        def add_plane(tables, entry, items, sums):
            for half in range(2):
                index = builder.add(builder.mul(entry, ir.Constant(INT64, 32)), ir.Constant(INT64, 16 * half))
                table = builder.load(vector_at(builder, tables, index, INT8, 16), align=1)
                table = builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), both)
                for part, place in enumerate(sums):
                    add_to(builder, place, shuffle_bytes(builder, table, items[part][half]))

        return _sum_planes(context, builder, signature, args, 32, halves, add_plane)

    return _pass_signature(queries, tile, out), generate


@intrinsic
def add_popcounts(typing_context, queries, stride, tile, start, stop, out, row, shift, add):
    """Write the numbers of differing bits in the bytes start to stop, for 4 queries and the 64 items of a tile.

    Arguments are as for `add_costs`, except the queries: each byte of their codes four times, as a uint32, which a
    vector instruction spreads over all lanes for free.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def add_plane(words, entry, items, sums):
            word = splat(builder, builder.load(builder.gep(words, [entry])), LANES // 4)
            differing = builder.xor(items[0], builder.bitcast(word, items[0].type))
            add_to(builder, sums[0], call(builder, "llvm.ctpop.v64i8", differing.type, differing))

        return _sum_planes(context, builder, signature, args, LANES, lambda items: items, add_plane)

    return _pass_signature(queries, tile, out), generate


@intrinsic
def write_popcounts(typing_context, queries, tile, width, group, out, row):
    """Write the distances of 4 queries to the 64 items of a tile, as `add_popcounts` with all sums in registers.

    Args:
        queries: pointer to the words of the first query.
        tile: pointer to a tile, uint8 (width, 64).
        width: bytes of a code.
        group: number of bytes whose differing bits fit in a uint8.
        out: pointer to the results of the first query, uint16 or uint32.
        row: elements from the results of a query to those of the next.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        queries, tile, width, group, out, row = args
        narrow = ir.VectorType(INT8, LANES)
        wide = ir.VectorType(ir.IntType(signature.args[4].dtype.bitwidth), LANES)
        sums, totals = (
            [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(GROUP)]
            for kind in (narrow, wide)
        )
        for place in totals:
            builder.store(ir.Constant(wide, None), place)
        with cgutils.for_range_slice(builder, ir.Constant(INT64, 0), width, group) as (start, _):
            for place in sums:
                builder.store(ir.Constant(narrow, None), place)
            end = builder.add(start, group)
            stop = builder.select(builder.icmp_signed("<", end, width), end, width)
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(INT64, 1)) as (byte, _):
                place = builder.mul(byte, ir.Constant(INT64, LANES))
                items = builder.load(vector_at(builder, tile, place, INT8, LANES), align=1)
                # The next tile: for reading, into the first level of the data cache.
                ahead = builder.gep(tile, [builder.add(place, builder.mul(width, ir.Constant(INT64, LANES)))])
                hints = [ir.Constant(INT32, hint) for hint in (0, 3, 1)]
                call(builder, "llvm.prefetch", ir.VoidType(), ahead, *hints)
                for query in range(GROUP):
                    entry = builder.add(builder.mul(width, ir.Constant(INT64, query)), byte)
                    word = splat(builder, builder.load(builder.gep(queries, [entry])), LANES // 4)
                    differing = builder.xor(items, builder.bitcast(word, narrow))
                    add_to(builder, sums[query], call(builder, "llvm.ctpop.v64i8", narrow, differing))
            for query in range(GROUP):
                add_to(builder, totals[query], builder.zext(builder.load(sums[query]), wide))
        for query in range(GROUP):
            index = builder.mul(row, ir.Constant(INT64, query))
            builder.store(builder.load(totals[query]), vector_at(builder, out, index, wide.element, LANES), align=1)
        return context.get_dummy_value()

    return types.void(queries, tile, types.int64, types.int64, out, types.int64), generate


@intrinsic
def at_most(typing_context, distances, bound):
    """Compare 64 distances with a bound: a uint64 whose bit i is 1 if distance i is at most the bound."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.IntType(signature.args[0].dtype.bitwidth)
        place = builder.bitcast(args[0], ir.VectorType(kind, LANES).as_pointer())
        bounds = splat(builder, builder.trunc(args[1], kind), LANES)
        return builder.bitcast(builder.icmp_unsigned("<=", builder.load(place, align=1), bounds), INT64)

    return types.uint64(distances, types.int64), generate


@intrinsic
def reaching(typing_context, tables, tile, planes, bound):
    """Look up and sum small numbers for the 64 items of a tile, and compare the sums with a bound.

    Sums are kept in 16 bits: one vector sums pairs of neighbouring bytes as they are, another their upper bytes alone,
    and the difference is the sum of the lower bytes.

    Args:
        tables: pointer to 32 numbers uint8 per byte of an item: of its lower and of its upper half. Each is at most
            127, and the sums at most 65,535.
        tile: pointer to a tile, uint8 (planes, 64).
        planes: bytes of an item.
        bound: lowest sum that counts, at most 65,535.

    Returns:
        A uint64 whose bit i is 1 if the sum of item i is at least the bound.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        tables, tile, planes, bound = args
        pairs = ir.VectorType(ir.IntType(16), 16)
        eights = constant(ir.IntType(16), [8] * 16)
        both = constant(INT32, [*range(16)] * 2)
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(pairs, None)) for _ in range(2)] for _ in range(2)]
        for place in (place for part in sums for place in part):
            builder.store(ir.Constant(pairs, None), place)
        with cgutils.for_range_slice(builder, ir.Constant(INT64, 0), planes, ir.Constant(INT64, 1)) as (plane, _):
            entry = builder.mul(plane, ir.Constant(INT64, 32))
            halves = []
            for half in range(2):
                index = builder.add(entry, ir.Constant(INT64, 16 * half))
                table = builder.load(vector_at(builder, tables, index, INT8, 16), align=1)
                halves.append(builder.shuffle_vector(table, ir.Constant(table.type, ir.Undefined), both))
            base = builder.mul(plane, ir.Constant(INT64, LANES))
            for part, (whole, upper) in enumerate(sums):
                index = builder.add(base, ir.Constant(INT64, 32 * part))
                items = builder.load(vector_at(builder, tile, index, INT8, 32), align=1)
                low = shuffle_bytes(builder, halves[0], builder.and_(items, constant(INT8, [15] * 32)))
                high = shuffle_bytes(builder, halves[1], builder.lshr(items, constant(INT8, [4] * 32)))
                found = builder.bitcast(builder.add(low, high), pairs)
                add_to(builder, whole, found)
                add_to(builder, upper, builder.lshr(found, eights))
        bounds = splat(builder, builder.trunc(bound, ir.IntType(16)), 32)
        interleaved = constant(INT32, [place for lane in range(16) for place in (lane, lane + 16)])
        masks = []
        for whole, upper in sums:
            odd = builder.load(upper)
            even = builder.sub(builder.load(whole), builder.shl(odd, eights))
            found = builder.icmp_unsigned(">=", builder.shuffle_vector(even, odd, interleaved), bounds)
            masks.append(builder.zext(builder.bitcast(found, INT32), INT64))
        return builder.or_(masks[0], builder.shl(masks[1], ir.Constant(INT64, 32)))

    return types.uint64(tables, tile, types.int64, types.int64), generate


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Count the ones in a uint64 with one machine instruction."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def lowest_one(typing_context: Any, word: Any) -> Any:
    """Return the place of the lowest one of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def pointer_to(typing_context, array, index):
    """Return a pointer to an element of a contiguous array, given its place in the flattened array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate
