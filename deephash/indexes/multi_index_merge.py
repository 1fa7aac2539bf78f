"""Kernel that merges later codes into the sorted tables of multi-index hashing, and drops removed ones.

A merge reads and writes the tables in sequence, so it takes less than half of the time of a new sort.
"""

# numba infers the types of compiled functions, and does not accept annotations on some.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs

from functools import cache

import numpy as np

from deephash.functional.compiled import Kernel, compiled

# Bits of a chunk's head that contain its number of items; see `multi_index_kernels`.
LOW = np.uint64((1 << 32) - 1)


@cache
def merge_kernel() -> Kernel:
    """Return a kernel that writes one table again, with the lists of later codes in their buckets.

    `laid` (n, W), `ids` int32 (n,) and `buckets` int32 (values + 1, 2) are the table, and `pool` the lists of later
    codes. `new_ids`, int32, are the new ids by old ids, ascending, and -1 for removed items; if it is empty, ids stay.
    The kernel fills `merged`, `merged_ids` and `merged_buckets`, and returns the number of items. The items of a bucket
    stay ordered by id.
    """

    def merge(laid, ids, buckets, pool, new_ids, merged, merged_ids, merged_buckets):
        width = laid.shape[1]
        filled = 0
        for bucket in range(len(buckets) - 1):
            merged_buckets[bucket, 0], merged_buckets[bucket, 1] = filled, -1
            for place in range(np.int64(buckets[bucket, 0]), np.int64(buckets[bucket + 1, 0])):
                item = np.int64(ids[place])
                if len(new_ids):
                    item = np.int64(new_ids[item])
                    if item < 0:
                        continue
                merged_ids[filled] = item
                for word in range(width):
                    merged[filled, word] = laid[place, word]
                filled += 1
            chunk = np.int64(buckets[bucket, 1])
            while chunk >= 0:
                for place in range(chunk + 1, chunk + 1 + np.int64(pool[chunk, 0] & LOW)):
                    item = np.int64(pool[place, width])
                    if len(new_ids):
                        item = np.int64(new_ids[item])
                        if item < 0:
                            continue
                    merged_ids[filled] = item
                    for word in range(width):
                        merged[filled, word] = pool[place, word]
                    filled += 1
                chunk = np.int64(pool[chunk, 1]) - 1
        merged_buckets[len(buckets) - 1, 0], merged_buckets[len(buckets) - 1, 1] = filled, -1
        return filled

    return compiled(merge)
