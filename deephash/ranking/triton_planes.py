"""Ranking kernels for a GPU over bit planes, in Triton: a word holds one bit of 32 items, and adders count the bits.

Hamming distances of 32 items are sums of bits, computed by full adders on words: two logical instructions add three
words. The sums are planes, too: plane p holds bit p of 32 distances. So no item needs its own registers, and a distance
is counted for 32 items by one popcount. `bit_planes` makes the layout: planes (blocks, rows, LANES) int32, of which row
r of a block holds bit r of its 32 * LANES items; flips (q, rows) int32 hold a query's bits as 0 or -1.
"""

# Triton compiles these functions from their source, where a parameter's annotation means a compile-time constant.
# Its tuples grow by concatenation.
# ruff: noqa: ANN001, ANN201, RUF005
# mypy: allow-untyped-defs, allow-incomplete-defs, disable-error-code="assignment"

import triton
import triton.language as tl

from deephash.ranking.triton_kernels import popcount


@triton.jit
def read_flips(flips, ROWS: tl.constexpr):
    """Read the bits of a query as a tuple of words that are 0 or -1."""
    words = ()
    for row in tl.static_range(ROWS):
        words = words + (tl.load(flips + row),)
    return words


@triton.jit
def add_planes(left, right, carry):
    """Add two numbers per item, of which the left one has at least as many planes, and a carry: one more plane."""
    total = ()
    for place in tl.static_range(len(left)):
        if place < len(right):
            total = total + (left[place] ^ right[place] ^ carry,)
            carry = (left[place] & right[place]) | (carry & (left[place] | right[place]))
        else:
            total = total + (left[place] ^ carry,)
            carry = left[place] & carry
    return total + (carry,)


@triton.jit
def count_differing(words, flips, FIRST: tl.constexpr, COUNT: tl.constexpr, LANES: tl.constexpr):
    """Count the differing bits of rows FIRST to FIRST + COUNT: planes of the counts, lowest first.

    Two halves are added with one row as the carry, which takes COUNT full adders less the number of planes.
    """
    carry = tl.load(words + FIRST * LANES) ^ flips[FIRST]
    if COUNT == 1:
        return (carry,)
    else:
        HALF: tl.constexpr = COUNT // 2
        REST: tl.constexpr = COUNT - 1 - HALF
        left = count_differing(words, flips, FIRST + 1, HALF, LANES)
        right = ()
        if REST > 0:
            right = count_differing(words, flips, FIRST + 1 + HALF, REST, LANES)
        return add_planes(left, right, carry)


@triton.jit
def block_distances(words, flips, held, chunks, PLANES: tl.constexpr, CHUNK: tl.constexpr, LANES: tl.constexpr):
    """Compute the distances of a block's items to a query: PLANES planes, lowest first.

    Codes of one chunk use the query's bits that a program holds in registers; others read them again for each chunk.
    """
    if len(held) > 0:
        return count_differing(words, held, 0, CHUNK, LANES)
    else:
        zero = tl.zeros((LANES,), tl.int32)
        total = ()
        for _ in tl.static_range(PLANES):
            total = total + (zero,)
        for chunk in range(chunks):
            own = read_flips(flips + chunk * CHUNK, CHUNK)
            part = count_differing(words + chunk * (CHUNK * LANES), own, 0, CHUNK, LANES)
            # The sum of all chunks fits in PLANES planes, so that the last carry is zero.
            total = add_planes(total, part, zero)[:PLANES]
        return total


@triton.jit
def select_values(planes, mask, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """Return words that tell for each value of COUNT planes which items, among those of a mask, have it."""
    if COUNT == 0:
        return (mask,)
    else:
        rest = select_values(planes, mask, FIRST, COUNT - 1)
        plane = planes[FIRST + COUNT - 1]
        masks = ()
        for place in tl.static_range(len(rest)):
            masks = masks + (rest[place] & ~plane,)
        for place in tl.static_range(len(rest)):
            masks = masks + (rest[place] & plane,)
        return masks


@triton.jit
def planes_histogram_kernel(
    planes,
    valid,
    flips,
    query_labels,
    part_labels,
    parts,
    tables,
    chunks,
    BITS: tl.constexpr,
    PLANES: tl.constexpr,
    CHUNK: tl.constexpr,
    HELD: tl.constexpr,
    LABELLED: tl.constexpr,
    LANES: tl.constexpr,
):
    """Count the distances from one query over a part of the blocks, added to int32 tables (q, 2, BITS + 1, LANES).

    With LABELLED, all items of a part have one label, and the second table of a query counts the parts with its label.
    """
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    lanes = tl.arange(0, LANES)
    query = flips + row * (chunks * CHUNK)
    held = ()
    if HELD:
        held = read_flips(query, CHUNK)
    counts = ()
    for _ in tl.static_range(BITS + 1):
        counts = counts + (tl.zeros((LANES,), tl.int32),)
    first = tl.load(parts + 2 * part)
    # int64 once per program, for large databases.
    words = planes + first.to(tl.int64) * (chunks * CHUNK * LANES) + lanes
    held_items = valid + first.to(tl.int64) * LANES + lanes
    for _ in range(first, tl.load(parts + 2 * part + 1)):
        distances = block_distances(words, query, held, chunks, PLANES, CHUNK, LANES)
        LOW: tl.constexpr = 3
        low = select_values(distances, tl.full((LANES,), -1, tl.int32), 0, LOW)
        high = select_values(distances, tl.load(held_items), LOW, PLANES - LOW)
        added = ()
        for value in tl.static_range(BITS + 1):
            items = low[value % 8] & high[value // 8]
            added = added + (counts[value] + popcount(items.to(tl.uint32, bitcast=True)),)
        counts = added
        words += chunks * CHUNK * LANES
        held_items += LANES
    table = row * 2
    if LABELLED:
        table += (tl.load(query_labels + row) == tl.load(part_labels + part)).to(tl.int64)
    slots = tables + table * ((BITS + 1) * LANES) + lanes
    for value in tl.static_range(BITS + 1):
        tl.atomic_add(slots + value * LANES, counts[value], sem="relaxed")


@triton.jit
def planes_within_kernel(
    planes,
    valid,
    flips,
    limits,
    filled,
    keys,
    n_blocks,
    steps,
    chunks,
    n_items,
    capacity,
    PLANES: tl.constexpr,
    CHUNK: tl.constexpr,
    HELD: tl.constexpr,
    STORED: tl.constexpr,
    LANES: tl.constexpr,
):
    """Count the valid items of one query within its distance limits[row] in filled (q,), over `steps` blocks.

    With STORED, their keys, distance * n_items + item, go to the next free places of keys (q, capacity), int64, in no
    order; those beyond the capacity are counted and not stored.
    """
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * steps
    lanes = tl.arange(0, LANES)
    limit = tl.load(limits + row)
    query = flips + row * (chunks * CHUNK)
    held = ()
    if HELD:
        held = read_flips(query, CHUNK)
    counts = tl.zeros((LANES,), tl.int32)
    # int64 once per program, for large databases.
    words = planes + first.to(tl.int64) * (chunks * CHUNK * LANES) + lanes
    held_items = valid + first.to(tl.int64) * LANES + lanes
    items = (first.to(tl.int64) * LANES + lanes) * 32
    for _ in range(first, min(first + steps, n_blocks)):
        distances = block_distances(words, query, held, chunks, PLANES, CHUNK, LANES)
        within = tl.full((LANES,), -1, tl.int32)
        for level in tl.static_range(PLANES):
            # At the highest differing bit, the smaller number has 0.
            bound = -((limit >> level) & 1)
            within = (~distances[level] & bound) | (~(distances[level] ^ bound) & within)
        near = within & tl.load(held_items)
        if STORED:
            while tl.max((near != 0).to(tl.int32), 0) > 0:
                found = near != 0
                lowest = near & -near
                place = popcount((lowest - 1).to(tl.uint32, bitcast=True)) & 31
                value = tl.zeros((LANES,), tl.int32)
                for digit in tl.static_range(PLANES):
                    value += ((distances[digit] >> place) & 1) << digit
                free = tl.atomic_add(filled + row + tl.zeros_like(lanes), 1, mask=found, sem="relaxed")
                key = value.to(tl.int64) * n_items + items + place
                tl.store(keys + row * capacity + free, key, mask=found & (free < capacity))
                near = near ^ lowest
        else:
            counts += popcount(near.to(tl.uint32, bitcast=True))
        words += chunks * CHUNK * LANES
        held_items += LANES
        items += LANES * 32
    if not STORED:
        tl.atomic_add(filled + row, tl.sum(counts, 0), sem="relaxed")
