"""The scan of codes by float queries in vector instructions, compiled by numba."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, disable-error-code="call-arg"

import numpy as np

from deephash.functional.compiled import compiled
from deephash.ranking.numba_vectors import LANES, lowest_one, pointer_to, reaching

# Tiles between two updates of what an item has to reach.
CHUNK = 32
# Share of the sum of all terms that rounding may change.
ROUNDING = 1e-5


@compiled
def is_worse(score, row, other_score, other_row):
    """Return whether an item ranks after another: by a smaller score, and at equal scores by a larger row."""
    return score < other_score or (score == other_score and row > other_row)


@compiled
def insert(scores, rows, size, score, row):
    """Put an item into a heap whose root is its worst item, in place of the root if the heap is full.

    `scores` and `rows` (k,) are the heap, of which `size` items are used. Return the new size.
    """
    k = len(scores)
    if size < k:
        place = size
        size += 1
        scores[place], rows[place] = score, row
        while place > 0 and is_worse(scores[place], rows[place], scores[(place - 1) // 2], rows[(place - 1) // 2]):
            parent = (place - 1) // 2
            scores[place], scores[parent] = scores[parent], scores[place]
            rows[place], rows[parent] = rows[parent], rows[place]
            place = parent
        return size
    scores[0], rows[0] = score, row
    place, worst = 0, -1
    while place != worst:
        if worst >= 0:
            scores[place], scores[worst] = scores[worst], scores[place]
            rows[place], rows[worst] = rows[worst], rows[place]
            place = worst
        worst = place
        for child in range(2 * place + 1, min(2 * place + 3, k)):
            if is_worse(scores[child], rows[child], scores[worst], rows[worst]):
                worst = child
    return size


@compiled
def round_up(table, offset, shortest, step, limit, rounded):
    """Fill small whole numbers whose sum reaches a bound for each item that scores more than a limit.

    An item scores more than t if the sum of its terms, less t times its length, exceeds -offset. The length is linear
    in its byte, so it is one more byte of terms. `table` float32 (B, 32) are the terms, `rounded` uint8 (B, 32) or
    (B + 1, 32) the numbers, of a common scale and rounded up. Return the bound, at most 65,535.
    """
    planes = len(rounded)
    levels = min(127, 65535 // (2 * planes))
    terms = np.empty((planes, 2, 16), np.float64)
    for plane in range(planes):
        for half in range(2):
            for value in range(16):
                if plane < len(table):
                    terms[plane, half, value] = table[plane, 16 * half + value]
                else:
                    terms[plane, half, value] = -limit * step * value * (16 if half else 1)
    widest, lowest, total = 1e-30, 0.0, abs(offset) + abs(limit * shortest)
    for plane in range(planes):
        for half in range(2):
            least, most = terms[plane, half].min(), terms[plane, half].max()
            widest, lowest = max(widest, most - least), lowest + least
            total += max(abs(least), abs(most))
    scale = widest / levels
    for plane in range(planes):
        for half in range(2):
            least = terms[plane, half].min()
            for value in range(16):
                above = min(np.ceil((terms[plane, half, value] - least) / scale), levels)
                rounded[plane, 16 * half + value] = np.uint8(above)
    bound = np.floor((limit * shortest - offset - lowest - ROUNDING * total) / scale)
    return np.int64(min(max(bound, 0), 65535))


@compiled
def scan_tiles(tables, offsets, shortest, step, tiles, items, shares, scores, rows, begin, end):
    """Find the items with the largest scores in each share of the database, for each query.

    The score of an item is (offset + the sum of its terms) / length. `tables` float32 (q, B, 32) are the terms of the
    lower and the upper half of each byte; `offsets` float32 (q,). `tiles` uint8 (T, B + 1, 64) hold the bytes of 64
    items each, and at last the byte s of the length, shortest + s step; with (T, B, 64) all lengths are `shortest`.
    Task t is query t // shares and share t % shares. `scores` float32 (q shares, k) and `rows` int64 (q shares, k) are
    filled in the order of a heap; unused places have row -1.

    Items that cannot score more than the k-th best so far are sorted out 64 at a time by sums of small whole numbers.
    """
    width, planes, k = tables.shape[1], tiles.shape[1], scores.shape[1]
    share = -(-len(tiles) // shares)
    rounded = np.empty((planes, 32), np.uint8)
    for task in range(begin, end):
        query, first = task // shares, (task % shares) * share
        table, offset = tables[query], offsets[query]
        heap, places = scores[task], rows[task]
        heap[:], places[:] = -np.inf, -1
        size, bound, rounded_for = 0, np.int64(0), np.float32(-np.inf)
        for chunk in range(first, min(first + share, len(tiles)), CHUNK):
            if size == k and heap[0] != rounded_for:
                rounded_for = heap[0]
                bound = round_up(table, offset, shortest, step, np.float64(rounded_for), rounded)
            for tile in range(chunk, min(chunk + CHUNK, first + share, len(tiles))):
                mask = ~np.uint64(0)
                if bound > 0:
                    mask = reaching(pointer_to(rounded, 0), pointer_to(tiles, tile * planes * LANES), planes, bound)
                while mask:
                    lane = np.int64(lowest_one(mask))
                    mask &= mask - np.uint64(1)
                    row = tile * LANES + lane
                    if row >= items:
                        break
                    total = offset
                    for byte in range(width):
                        value = tiles[tile, byte, lane]
                        total += table[byte, value & 15] + table[byte, 16 + (value >> 4)]
                    length = shortest
                    if planes > width:
                        length += step * np.float32(tiles[tile, width, lane])
                    score = total / length
                    if size < k or score > heap[0]:
                        size = insert(heap, places, size, score, row)
